// A router: takes tasks at rpc.NAME and hands each to one of the agents given, in turn, unopened.
// usage: node router.mjs SERVER NAME AGENT...
import { connect } from "@nats-io/transport-node";
import { decode, errorOf, identifier, sender } from "./wire.mjs";

const [server, name, ...agents] = process.argv.slice(2);
const nc = await connect({ servers: server, maxReconnectAttempts: -1 });
const wrap = sender(`/clients/${name}-${identifier().slice(-8)}`);
const leases = new Map(); // key -> until when the instance is there, and whether it takes tasks

nc.subscribe("$KV.dragoman_registry.inst.>", { callback: (_, message) => { // REG-12 to REG-16
  const gone = ["DEL", "PURGE"].includes(message.headers?.get("KV-Operation")) || message.headers?.get("Nats-Marker-Reason");
  if (gone) return leases.delete(message.subject);
  try {
    const { data } = decode(message.data, "agent.lease");
    if (message.subject !== `$KV.dragoman_registry.inst.${data.agent}.${data.instance}`) return; // REG-17
    leases.set(message.subject, { agent: data.agent, until: Date.now() + (data.leaseSeconds + 1) * 1000, ready: data.state === "ready" });
  } catch (error) { console.error(`ignored: ${error.message}`); }
}});

let turn = 0;
const isReady = (agent) => [...leases.values()].some((one) => one.agent === agent && one.ready && one.until > Date.now()); // REG-19
nc.subscribe(`dragoman.v1.rpc.${name}`, { queue: name, callback: (_, message) => {
  const there = agents.filter(isReady);
  if (!there.length) { // RTR-4
    if (message.reply) nc.publish(message.reply, wrap("error", { error: errorOf("AGENT_UNAVAILABLE", `none of ${agents} is there`) }));
    return;
  }
  // The bytes and the reply subject as they came: the agent answers the caller itself, and nothing
  // is ever sent a second time (RTR-1, RTR-2, RTR-3, RTR-5).
  nc.publish(`dragoman.v1.rpc.${there[turn++ % there.length]}`, message.data, { reply: message.reply });
}});
await nc.flush();
console.log(`${name} forwards to ${agents}`);
