// What every participant needs: envelopes, strict validation, canonical JSON, names.
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import Ajv from "ajv/dist/2020.js";

const SCHEMAS = new URL("../../schemas/draft/", import.meta.url);
const BASE = "https://dragoman.dev/schemas/1.0/";
// Formats are annotations (model.md, contracts); nothing is fetched (ENV-10).
const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
for (const file of readdirSync(SCHEMAS).filter((name) => name.endsWith(".json"))) {
  const schema = JSON.parse(readFileSync(new URL(file, SCHEMAS), "utf-8"));
  if (schema.$id) ajv.addSchema(schema);
}
export const compile = (schema) => ajv.compile(schema);

export const ENDINGS = ["COMPLETED", "FAILED", "CANCELED", "REJECTED"].map((s) => `TASK_STATE_${s}`);

/** A name that nobody else has had (NAME-2, NAME-3). */
export const identifier = () => Date.now().toString(36) + randomBytes(8).toString("hex");

export class Refusal extends Error {
  constructor(code, message, members = {}) {
    super(message);
    this.code = code;
    this.members = members;
  }
}

/** The body of a valid message of one of these types; judged in the order of ERR-11. */
export function decode(bytes, ...types) {
  let document;
  try {
    document = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (error) {
    throw new Refusal("INVALID_MESSAGE", `not a JSON document: ${error.message}`);
  }
  const { type, protocolversion, data } = Object(document);
  const taskId = /^[a-z0-9_-]{1,63}$/.test(data?.taskId) ? data.taskId : undefined; // ERR-13
  const refuse = (code, message, members) => {
    throw new Refusal(code, message, { taskId, type, ...members });
  };
  if (/^(0|[1-9]\d{0,3})\.(0|[1-9]\d{0,3})$/.test(protocolversion) && !protocolversion.startsWith("1."))
    refuse("UNSUPPORTED_VERSION", `version ${protocolversion} is not spoken here`, { supportedVersions: ["1.0"] });
  const validate = typeof type === "string" && ajv.getSchema(`${BASE}${type.replace("dev.dragoman.", "")}.json`);
  if (typeof type === "string" && !(type.startsWith("dev.dragoman.") && validate))
    refuse("UNKNOWN_TYPE", `no type ${type.slice(0, 128)}`);
  if (!validate || !validate(document)) {
    const violations = (validate?.errors ?? [{ instancePath: "", message: "no type" }]).slice(0, 20);
    const listed = violations.map((one) => ({ path: one.instancePath, message: one.message }));
    refuse("INVALID_MESSAGE", "not a valid message", { details: { violations: listed } }); // ERR-12
  }
  if (!types.includes(type.replace("dev.dragoman.", ""))) refuse("UNKNOWN_TYPE", `${type} does not belong here`); // NATS-6
  return document;
}

/** Makes the messages of one source, each with an id of its own (ENV-6). */
export const sender = (source) => (type, data) =>
  JSON.stringify({
    specversion: "1.0",
    id: identifier(),
    source,
    type: `dev.dragoman.${type}`,
    time: new Date().toISOString(),
    protocolversion: "1.0",
    data, // members without a value are left out by JSON.stringify (ENV-4)
  });

/** The error object (errors.md). */
export const errorOf = (code, message, members = {}) => ({
  code,
  message,
  retryable: ["OVERLOADED", "DRAINING", "AGENT_UNAVAILABLE", "DEADLINE_EXCEEDED"].includes(code),
  sideEffects: "none",
  ...members,
});

/** RFC 8785: ECMAScript's own numbers and strings, members in the order of UTF-16. */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const names = Object.keys(value).filter((name) => value[name] !== undefined).sort();
  return `{${names.map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`).join(",")}}`;
}
export const digest = (value) => `sha256:${createHash("sha256").update(canonical(value)).digest("hex")}`;
