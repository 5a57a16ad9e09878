// An agent: two skills, direct delivery, leases, drain, and the NATS service protocol.
// usage: node agent.mjs [server] [name]
import { connect } from "@nats-io/transport-node";
import { join } from "./registry.mjs";
import { Refusal, compile, decode, digest, errorOf, identifier, sender } from "./wire.mjs";

const [server = "nats://127.0.0.1:4222", agent = "node"] = process.argv.slice(2);
const SLOTS = 16, KEEP_ALIVE = 2, LEASE = 10; // KEEP-2, REG-7
const instance = `${agent}-${identifier()}`;
const startedAt = new Date().toISOString();
const wrap = sender(`/agents/${agent}/${instance}`);
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

// ---- what it can do

const text = { type: "string" };
const SKILLS = {
  reverse: {
    description: "Turns a text around",
    inputSchema: { type: "object", properties: { text }, required: ["text"] },
    run: async ({ text }) => [...text].reverse().join(""),
  },
  count: {
    description: "Counts, one number at a time",
    inputSchema: {
      type: "object",
      properties: { text, to: { type: "integer", minimum: 1 }, pause: { type: "number" } },
      required: ["to"],
    },
    run: async ({ to, pause = 0 }, task) => {
      for (let number = 1; number <= to; number++) {
        await task.emit(`${number} `);
        if (pause) await sleep(pause);
      }
    },
  },
};
for (const [skill, one] of Object.entries(SKILLS)) {
  const schemas = { inputSchema: one.inputSchema, outputSchema: text, textInput: "text" };
  one.contract = { skill, ...schemas, digest: digest(schemas) }; // CON-1
  one.fits = compile(one.inputSchema);
}
const modes = ["text/plain", "application/json"];
const announcement = {
  agent,
  card: {
    name: agent,
    description: "An agent in JavaScript",
    version: "1.0.0",
    supportedInterfaces: [{
      url: `nats:dragoman.v1.rpc.${agent}`,
      protocolBinding: "https://dragoman.dev/bindings/nats/v1", // REG-3
      protocolVersion: "1.0",
    }],
    capabilities: { streaming: true },
    defaultInputModes: modes,
    defaultOutputModes: modes,
    skills: Object.entries(SKILLS).map(([id, { description }]) => ({ id, name: id, description, tags: [] })),
  },
  contracts: Object.values(SKILLS).map((one) => one.contract), // SKL-1
  protocolVersions: ["1.0"],
};
const card = digest(announcement);

// ---- one task: its log, its fold, and where its stream goes

const tasks = new Map();
const totals = { done: 0, failed: 0, refused: 0, invalid: 0 };
let state = "ready";
const running = () => [...tasks.values()].filter((task) => !task.ended).length;

class Task {
  constructor(data, reply) {
    Object.assign(this, { data, reply, id: data.taskId, context: data.contextId ?? data.taskId }); // OBJ-7
    Object.assign(this, { sequence: 0, credit: 0, window: data.flowWindow, status: { state: "TASK_STATE_SUBMITTED" } });
    Object.assign(this, { artifacts: [], ended: false, spokeAt: Date.now(), started: Date.now(), opened: () => {} });
  }
  send(type, data) {
    this.sequence = data.sequence = this.sequence + 1; // LOG-1
    data.attempt = 1; // LOG-2
    this.spokeAt = Date.now();
    nc.publish(this.reply, wrap(type, data)); // NATS-11
  }
  event(members) {
    return { taskId: this.id, contextId: this.context, ...members }; // OBJ-6
  }
  get held() {
    return this.window !== undefined && this.sequence + 1 > this.credit + this.window; // FLOW-1
  }
  tell(status) {
    this.status = status;
    this.send("task.status", { statusUpdate: this.event({ status }), keepAliveSeconds: KEEP_ALIVE });
  }
  async emit(text) {
    const since = Date.now();
    while (this.held && !this.ended) {
      await Promise.race([new Promise((resolve) => (this.opened = resolve)), sleep(1)]); // FLOW-3
      if (Date.now() - since > 30000) this.end("CANCELED", { error: errorOf("CANCELED", "nobody reads") }); // FLOW-5
    }
    if (this.ended) throw new Refusal("CANCELED", "the task has ended"); // LOG-4
    const artifact = { artifactId: "output", parts: [{ text }] };
    const append = this.artifacts.length > 0 || undefined; // STR-6
    if (append) this.artifacts[0].parts.push({ text });
    else this.artifacts.push(structuredClone(artifact));
    this.status = { state: "TASK_STATE_WORKING" };
    this.send("task.artifact", { artifactUpdate: this.event({ artifact, append }), keepAliveSeconds: KEEP_ALIVE });
  }
  end(name, members = {}) {
    if (this.ended) return; // LOG-3
    this.ended = true;
    this.opened();
    totals[name === "COMPLETED" ? "done" : "failed"] += 1;
    this.status = { state: `TASK_STATE_${name}` };
    this.outcome = { error: members.error, receipt: members.receipt };
    for (const one of members.artifacts ?? []) this.artifacts = [one];
    this.send("task.final", { statusUpdate: this.event({ status: this.status }), ...members }); // FLOW-2
    setTimeout(() => tasks.delete(this.id), 60000); // IDM-4
  }
  snapshot() {
    const artifacts = this.artifacts.length ? this.artifacts : undefined;
    const task = { id: this.id, contextId: this.context, status: this.status, artifacts };
    const promise = this.ended ? undefined : KEEP_ALIVE;
    return wrap("task.snapshot", { task, sequence: this.sequence, attempt: 1, keepAliveSeconds: promise, ...this.outcome });
  }
  subscribe(reply, window) {
    nc.publish(reply, this.snapshot()); // RES-1
    Object.assign(this, { reply, window, credit: this.sequence }); // RES-2, FLOW-9
    this.opened();
  }
  async run() {
    const { run, contract, fits } = SKILLS[this.data.skill];
    try {
      const input = inputOf(this.data.message, contract.textInput);
      if (!fits(input)) throw new Refusal("INVALID_INPUT", "the input does not fit", { details: { violations: fits.errors.map((one) => ({ path: one.instancePath, message: one.message })) } });
      const output = await run(input, this);
      const receipt = { agent, instance, skill: this.data.skill, contract: contract.digest, runMilliseconds: Date.now() - this.started };
      const artifacts = output === undefined ? undefined : [{ artifactId: "output", parts: [{ text: output }] }]; // IO-5
      this.end("COMPLETED", { artifacts, receipt, usage: { source: "none" } }); // RCP-1
    } catch (error) {
      const refused = error.code === "INVALID_INPUT"; // CON-5
      this.end(refused ? "REJECTED" : "FAILED", { error: errorOf(error.code ?? "SKILL_FAILED", error.message, { sideEffects: refused ? "none" : "possible", ...error.members }) });
    }
  }
}

/** IO-1 to IO-4. */
function inputOf({ parts }, textInput) {
  const data = parts.filter((one) => "data" in one).map((one) => one.data);
  const texts = parts.filter((one) => "text" in one).map((one) => one.text);
  const isObject = typeof data[0] === "object" && data[0] !== null && !Array.isArray(data[0]);
  if (data.length > 1 || (texts.length && data.length && !isObject)) throw new Refusal("INVALID_INPUT", "not one input");
  if (!texts.length) return data.length ? data[0] : {};
  return { [textInput]: texts.join("\n"), ...data[0] };
}

// ---- requests

function submit({ data }, reply) {
  const known = tasks.get(data.taskId);
  if (known) {
    const same = digest([known.data.skill, known.data.message]) === digest([data.skill, data.message]);
    if (!same) throw new Refusal("TASK_CONFLICT", "another task has this id"); // IDM-2
    return known.subscribe(reply, data.flowWindow); // IDM-1
  }
  if (Date.parse(data.limits?.deadline) < Date.now()) throw new Refusal("DEADLINE_EXCEEDED", "too late"); // LIM-1
  if (!(data.skill in SKILLS)) throw new Refusal("UNKNOWN_SKILL", `there are ${Object.keys(SKILLS)}`); // SUB-4
  const contract = SKILLS[data.skill].contract.digest;
  if (data.contract && data.contract !== contract) throw new Refusal("CONTRACT_MISMATCH", "another contract", { details: { contract } });
  if (data.requiredExtensions?.length) throw new Refusal("EXTENSION_REQUIRED", "no extensions here"); // SUB-7
  if (data.lineage?.path.includes(agent)) throw new Refusal("DELEGATION_LOOP", "it came back"); // LIN-2
  if (state === "draining") throw new Refusal("DRAINING", "leaving"); // SUB-6
  if (running() >= SLOTS) throw new Refusal("OVERLOADED", "all slots are busy", { retryAfterSeconds: 0.5 }); // SUB-5
  const task = new Task(data, reply);
  tasks.set(task.id, task);
  task.run();
}

const find = ({ data }) => {
  const task = tasks.get(data.taskId);
  if (!task) throw new Refusal("TASK_NOT_FOUND", "no such task here"); // RES-5
  return task;
};
const lease = () => ({ agent, instance, card, state, leaseSeconds: LEASE, slots: SLOTS, running: running(), queued: 0, startedAt });
const OPERATIONS = {
  "task.submit": submit,
  "task.get": (message, reply) => nc.publish(reply, find(message).snapshot()), // GET-1
  "task.subscribe": (message, reply) => find(message).subscribe(reply, message.data.flowWindow),
  "task.cancel": (message, reply) => {
    const task = find(message);
    if (reply) nc.publish(reply, task.snapshot()); // CAN-1, CAN-4
    task.end("CANCELED", { error: errorOf("CANCELED", "canceled by the caller", { sideEffects: "possible" }) });
  },
  "task.reply": () => { throw new Refusal("TASK_NOT_WAITING", "no task asks here"); }, // RPL-3
  "task.flow": ({ data }) => {
    const task = tasks.get(data.taskId);
    if (task && data.through > task.credit) task.credit = data.through, task.opened(); // FLOW-4
  },
  "agent.status": (_, reply) => nc.publish(reply, wrap("agent.lease", lease())), // OPS-1
  "agent.drain": (message, reply) => {
    state = "draining";
    if (reply) nc.publish(reply, wrap("agent.lease", lease())); // OPS-2
    leave(message.data.graceSeconds ?? 30);
  },
};

function receive(message, ...types) {
  try {
    const document = decode(message.data, ...types);
    const ours = !message.subject.includes(".ask.") || (document.data.audience ?? [agent]).includes(agent);
    if (ours && (message.reply || !/submit|get|subscribe|status/.test(document.type)))
      OPERATIONS[document.type.replace("dev.dragoman.", "")](document, message.reply); // SCA-2
  } catch (error) {
    totals.refused += 1;
    const { taskId, type, ...members } = error.members ?? {};
    if (["INVALID_MESSAGE", "UNKNOWN_TYPE", "UNSUPPORTED_VERSION"].includes(error.code)) totals.invalid += 1; // ENV-12
    if (!(error instanceof Refusal)) console.error(error);
    if (!message.reply || type === "dev.dragoman.error") return; // ERR-14
    const named = taskId ?? safely(() => JSON.parse(message.string()).data.taskId);
    nc.publish(message.reply, wrap("error", { error: errorOf(error.code ?? "INTERNAL", error.message, members), taskId: named })); // ERR-1
  }
}
const safely = (work) => { try { return work(); } catch { return undefined; } };

// ---- on the bus

const nc = await connect({ servers: server, name: agent, maxReconnectAttempts: -1 }); // NATS-17
const listen = (subject, queue, ...types) => nc.subscribe(subject, { queue, callback: (error, message) => error || receive(message, ...types) });
const endpoints = [["rpc", `dragoman.v1.rpc.${agent}`, agent]];
for (const skill of Object.keys(SKILLS))
  endpoints.push([`skill-${skill}`, `dragoman.v1.skill.${skill}`, "skill"], [`ask-${skill}`, `dragoman.v1.ask.${skill}`, agent]);
const shared = endpoints.map(([, subject, queue]) => listen(subject, queue, "task.submit")); // NATS-1
for (const type of Object.keys(OPERATIONS)) listen(`dragoman.v1.inst.${instance}.${type.split(".")[1]}`, undefined, type);

const identity = { name: agent, id: instance, version: "1.0.0", metadata: { "dragoman.protocol": "1.0", "dragoman.card": card, "dragoman.models": "" } };
const named = () => endpoints.map(([name, subject, queue_group]) => ({ name, subject, queue_group }));
const numbers = () => named().map((one, index) => ({
  ...one, num_requests: index ? 0 : totals.done + totals.failed, num_errors: index ? 0 : totals.failed, last_error: "", processing_time: 0, average_processing_time: 0,
  data: index ? {} : { state, slots: SLOTS, running: running(), queued: 0, refused: totals.refused, invalid: totals.invalid, inputTokens: 0, outputTokens: 0, cost: {} },
}));
const SERVICE = { PING: () => ({}), INFO: () => ({ description: announcement.card.description, endpoints: named() }), STATS: () => ({ started: startedAt, endpoints: numbers() }) };
for (const [verb, answer] of Object.entries(SERVICE))
  for (const scope of ["", `.${agent}`, `.${agent}.${instance}`]) // SRV-1
    nc.subscribe(`$SRV.${verb}${scope}`, { callback: (_, message) => message.respond(JSON.stringify({ type: `io.nats.micro.v1.${verb.toLowerCase()}_response`, ...identity, ...answer() })) });
await nc.flush(); // NATS-5

const registry = await join(nc, { agent, instance, card, announcement, wrap, lease });

setInterval(() => { // SUB-2, KEEP-1, KEEP-3, LIM-2
  for (const task of tasks.values()) {
    if (task.ended) continue;
    if (Date.parse(task.data.limits?.deadline) < Date.now()) task.end("FAILED", { error: errorOf("DEADLINE_EXCEEDED", "the deadline passed", { sideEffects: "possible" }) });
    else if (Date.now() - task.spokeAt > 500 && !task.held) task.tell({ ...task.status, state: "TASK_STATE_WORKING" });
  }
}, 250);

let leaving = false;
async function leave(grace) {
  if (leaving) return;
  [leaving, state] = [true, "draining"];
  await registry.renew(); // OPS-3
  for (const subscription of shared) subscription.drain();
  for (const until = Date.now() + grace * 1000; running() && Date.now() < until; ) await sleep(0.05);
  for (const task of tasks.values()) task.end("CANCELED", { error: errorOf("CANCELED", "the agent leaves", { sideEffects: "possible" }) }); // OPS-4
  await registry.goodbye(); // OPS-5
  await nc.drain();
  process.exit(0);
}
process.on("SIGTERM", () => leave(30));
process.on("SIGINT", () => leave(30));
console.log(`${agent} serves as ${instance}`);
