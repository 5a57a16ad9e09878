// A caller: one task to a skill, streamed to standard output; exit code 0 when it completed.
// usage: node caller.mjs SERVER SKILL TEXT [JSON]     the JSON object goes beside the text
import { connect, createInbox } from "@nats-io/transport-node";
import { ENDINGS, decode, identifier, sender } from "./wire.mjs";

const [server, skill, text, json] = process.argv.slice(2);
const nc = await connect({ servers: server, maxReconnectAttempts: -1 }); // NATS-12, NATS-17
const taskId = identifier(), WINDOW = 64;
const wrap = sender(`/clients/node-${taskId.slice(-12)}`);
const inbox = createInbox();
const deadline = Date.now() + 60000;

let source, sequence = 0, promised = 5, heardAt = Date.now(), readThrough = 0, probes = 0;
const output = []; // the parts of the artifact "output"
const instance = () => source.split("/")[3];
const send = (operation, data) =>
  nc.publish(`dragoman.v1.inst.${instance()}.${operation}`, wrap(`task.${operation}`, { taskId, ...data }), { reply: operation === "flow" ? undefined : inbox });
const fail = (code, message) => { console.error(`${code}: ${message}`); process.exit(1); };
const show = (parts) => { for (const one of parts) process.stdout.write(one.text ?? JSON.stringify(one.data)); };

nc.subscribe(inbox, { callback: (_, message) => { // SUB-1
  if (message.headers?.code === 503) return fail(source ? "AGENT_LOST" : "AGENT_UNAVAILABLE", "nobody listens"); // SUB-11, KEEP-6
  let document;
  try { document = decode(message.data, "task.status", "task.artifact", "task.final", "task.snapshot", "error"); }
  catch (error) { return console.error(`dropped: ${error.message}`); } // ENV-12
  const { type, data } = document;
  if (type.endsWith(".error")) return fail(data.error.code, data.error.message);
  if ((source ??= document.source) !== document.source) return; // SUB-13
  [heardAt, probes] = [Date.now(), 0];
  promised = data.keepAliveSeconds ?? 5;
  const snapshot = type.endsWith("snapshot");
  if (data.sequence <= sequence && !(snapshot && data.sequence === sequence)) return; // STR-2
  if (!snapshot && data.sequence > sequence + 1) return send("subscribe", { after: sequence, flowWindow: WINDOW }); // STR-3, STR-4
  sequence = data.sequence;
  fold(data, snapshot);
}});

function fold(data, snapshot) {
  const { artifactUpdate, statusUpdate, task } = data;
  const final = (snapshot ? task.artifacts : data.artifacts)?.find((one) => one.artifactId === "output");
  if (artifactUpdate?.artifact.artifactId === "output") {
    if (!artifactUpdate.append) output.length = 0;
    output.push(...artifactUpdate.artifact.parts);
    show(artifactUpdate.artifact.parts);
  } else if (final) { // what was streamed of it is not shown again (STR-7)
    const shown = JSON.stringify(output) === JSON.stringify(final.parts.slice(0, output.length)) ? output.length : 0;
    show(final.parts.slice(shown));
    output.splice(0, output.length, ...final.parts); // LOG-7
  }
  const state = (statusUpdate ?? task ?? {}).status?.state;
  if (ENDINGS.includes(state)) {
    if (state !== "TASK_STATE_COMPLETED") fail(data.error?.code ?? state, data.error?.message ?? "");
    console.log();
    nc.drain().then(() => process.exit(0)); // RES-4
  } else if (sequence - readThrough >= WINDOW / 2) send("flow", { through: (readThrough = sequence) }); // FLOW-6
}

setInterval(() => {
  const silent = (Date.now() - heardAt) / 1000;
  if (Date.now() > deadline + 1000) { if (source) send("cancel", {}); fail("DEADLINE_EXCEEDED", "not in time"); } // DL-1, DL-2
  if (silent <= (promised + 1) * (probes + 1)) return; // KEEP-4
  if (!source || ++probes > 3) fail("AGENT_LOST", `silent for ${silent} s`); // SUB-10
  send("subscribe", { after: sequence, flowWindow: WINDOW }); // KEEP-5
}, 200);
(async () => { for await (const { type } of nc.status()) if (type === "reconnect" && source) send("subscribe", { after: sequence, flowWindow: WINDOW }); })(); // RES-7

const parts = [{ text }];
if (json) parts.push({ data: JSON.parse(json), mediaType: "application/json" });
const submission = wrap("task.submit", {
  taskId,
  skill,
  message: { messageId: identifier(), role: "ROLE_USER", parts }, // OBJ-4
  limits: { deadline: new Date(deadline).toISOString() }, // LIM-7
  flowWindow: WINDOW,
});
if (submission.length > nc.info.max_payload) fail("PAYLOAD_TOO_LARGE", "the request is too large"); // NATS-14
nc.publish(`dragoman.v1.skill.${skill}`, submission, { reply: inbox }); // NATS-3, SUB-9
