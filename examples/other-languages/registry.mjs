// An instance in the registry: announced, renewed every three seconds, and gone with a goodbye.
import { headers } from "@nats-io/transport-node";

const BUCKET = {
  name: "KV_dragoman_registry",
  subjects: ["$KV.dragoman_registry.>"],
  max_msgs_per_subject: 1,
  allow_msg_ttl: true,
  allow_direct: true,
  allow_rollup_hdrs: true,
  deny_delete: true,
  discard: "new",
  subject_delete_marker_ttl: 5_000_000_000, // nanoseconds
};

/** Announces, writes the first lease, and keeps it; `lease()` is the lease as it is now. */
export async function join(nc, { agent, instance, card, announcement, wrap, lease }) {
  const key = `$KV.dragoman_registry.inst.${agent}.${instance}`;
  let revision = 0;

  async function write(subject, body, expected, ttl) {
    const options = headers();
    options.set("Nats-Expected-Last-Subject-Sequence", String(expected));
    if (ttl) options.set("Nats-TTL", String(Math.ceil(ttl))); // REG-5
    return (await nc.request(subject, body, { headers: options, timeout: 5000 })).json();
  }

  async function announce() {
    const info = (await nc.request(`$JS.API.STREAM.INFO.${BUCKET.name}`)).json();
    if (info.error) await nc.request(`$JS.API.STREAM.CREATE.${BUCKET.name}`, JSON.stringify(BUCKET));
    // Of those who write it first, one succeeds, and nobody overwrites it (REG-1, REG-2).
    await write(`$KV.dragoman_registry.card.${agent}.${card.replace("sha256:", "")}`, wrap("agent.announce", announcement), 0);
  }

  async function renew() {
    const { leaseSeconds } = lease();
    let stored = await write(key, wrap("agent.lease", lease()), revision, leaseSeconds); // REG-6
    if (stored.error) { // REG-8: it expired, or the server lost it; a marker may be what is there
      await announce();
      const found = await nc.request(`$JS.API.DIRECT.GET.${BUCKET.name}.${key}`);
      revision = Number(found.headers?.get("Nats-Sequence") || 0);
      stored = await write(key, wrap("agent.lease", lease()), revision, leaseSeconds);
    }
    revision = stored.seq ?? 0;
  }

  const quietly = () => renew().catch((error) => console.error(`lease: ${error.message}`));
  await announce();
  await renew();
  const renewing = setInterval(quietly, 3000); // REG-7
  (async () => { for await (const { type } of nc.status()) if (type === "reconnect") quietly(); })(); // NATS-18
  return {
    renew: quietly, // REG-9
    async goodbye() { // REG-11
      clearInterval(renewing);
      const options = headers();
      options.set("KV-Operation", "DEL");
      await nc.request(key, "", { headers: options }).catch(() => {});
    },
  };
}
