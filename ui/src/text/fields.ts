// An answer held to a JSON schema, as the fields of a form.

interface Named {
  label: string;
  description: string;
}

export type Field = Named & (
  | { kind: "text"; text: string; long: boolean }
  | { kind: "flag"; on: boolean }
  | { kind: "nothing" }
  | { kind: "group"; fields: Field[] }
  | { kind: "list"; fields: Field[] }
  /** Plain values, one below the other. */
  | { kind: "values"; values: string[] }
  | { kind: "table"; columns: string[]; rows: string[][] }
);

type Schema = Record<string, unknown>;

/** What nests deeper is shown as JSON. */
const DEPTH = 8;
const COLUMNS = 8;
const LONG = 60;

/** The fields of `value`. `schema`: its JSON schema; what it lacks is guessed. */
export function fieldsOf(value: unknown, schema: unknown): Field {
  const root = isObject(schema) ? schema : {};
  return field("", value, root, root, 0);
}

function field(name: string, value: unknown, given: unknown, root: Schema, depth: number): Field {
  const schema = resolve(given, value, root);
  const label = typeof schema.title === "string" && depth > 0 ? schema.title : readable(name);
  const description = typeof schema.description === "string" ? schema.description : "";
  const named = { label, description };
  if (value === null || value === undefined) return { ...named, kind: "nothing" };
  if (typeof value === "boolean") return { ...named, kind: "flag", on: value };
  if (typeof value !== "object") return text(named, String(value));
  if (depth >= DEPTH) return text(named, JSON.stringify(value));
  if (Array.isArray(value)) return array(named, value, schema, root, depth);
  const properties = isObject(schema.properties) ? schema.properties : {};
  const fields = Object.entries(value).map(([key, inner]) =>
    field(key, inner, Object.hasOwn(properties, key) ? properties[key] : schema.additionalProperties, root, depth + 1),
  );
  return { ...named, kind: "group", fields };
}

function array(named: Named, values: unknown[], schema: Schema, root: Schema, depth: number): Field {
  if (values.length === 0) return { ...named, kind: "nothing" };
  if (values.every(isPlain)) return { ...named, kind: "values", values: values.map(plainText) };
  const table = asTable(values, schema.items, root);
  if (table !== null) return { ...named, kind: "table", ...table };
  const prefix = Array.isArray(schema.prefixItems) ? schema.prefixItems : [];
  const fields = values.map((value, i) => {
    const item = field("", value, prefix[i] ?? schema.items, root, depth + 1);
    return { ...item, label: String(i + 1) };
  });
  return { ...named, kind: "list", fields };
}

/** Rows and columns of objects that hold plain values only; null if they don't, or would be too wide. */
function asTable(values: unknown[], items: unknown, root: Schema): { columns: string[]; rows: string[][] } | null {
  if (!values.every((value) => isObject(value) && Object.values(value).every(isPlain))) return null;
  const objects = values as Record<string, unknown>[];
  const keys = [...new Set(objects.flatMap(Object.keys))];
  if (keys.length === 0 || keys.length > COLUMNS) return null;
  const { properties } = resolve(items, objects[0], root);
  const known = isObject(properties) ? properties : {};
  const columns = keys.map((key) => {
    const column = Object.hasOwn(known, key) ? resolve(known[key], undefined, root) : {};
    return typeof column.title === "string" ? column.title : readable(key);
  });
  return { columns, rows: objects.map((row) => keys.map((key) => plainText(row[key]))) };
}

/** The schema that `given` leads to: by `$ref` within the document, or the first alternative that fits the value. */
function resolve(given: unknown, value: unknown, root: Schema): Schema {
  let schema: Schema = isObject(given) ? given : {};
  for (let step = 0; step < DEPTH; step += 1) {
    const { $ref } = schema;
    const choices = schema.anyOf ?? schema.oneOf;
    const outer = { title: schema.title, description: schema.description };
    let next: unknown;
    if (typeof $ref === "string") next = lookUp($ref, root);
    else if (Array.isArray(choices)) next = choices.find((choice) => fits(choice, value, root));
    else return schema;
    if (!isObject(next)) return schema;
    schema = { ...next, title: outer.title ?? next.title, description: outer.description ?? next.description };
  }
  return schema;
}

function lookUp(ref: string, root: Schema): unknown {
  if (!ref.startsWith("#")) return undefined;
  const path = ref.slice(1).split("/").slice(1);
  return path.reduce<unknown>((at, part) => {
    const key = part.replaceAll("~1", "/").replaceAll("~0", "~");
    return isObject(at) && Object.hasOwn(at, key) ? at[key] : undefined;
  }, root);
}

function fits(choice: unknown, value: unknown, root: Schema): boolean {
  let schema = choice;
  if (isObject(schema) && typeof schema.$ref === "string") schema = lookUp(schema.$ref, root);
  if (!isObject(schema)) return false;
  if (Array.isArray(schema.required) && isObject(value)) {
    if (!schema.required.every((key) => typeof key === "string" && Object.hasOwn(value, key))) return false;
  }
  if (typeof schema.type !== "string") return true;
  if (value === null) return schema.type === "null";
  if (Array.isArray(value)) return schema.type === "array";
  const type = schema.type === "integer" ? "number" : schema.type;
  return type === typeof value;
}

function text(named: Named, value: string): Field {
  return { ...named, kind: "text", text: value, long: value.length > LONG || value.includes("\n") };
}

/** `first_name` and `firstName` as "First name". */
function readable(name: string): string {
  const words = name.replace(/([a-z\d])([A-Z])/g, "$1 $2").replace(/[_\s]+/g, " ").trim().toLowerCase();
  return words === "" ? name : words[0]!.toUpperCase() + words.slice(1);
}

function plainText(value: unknown): string {
  if (value === null || value === undefined) return "";
  return typeof value === "boolean" ? (value ? "Yes" : "No") : String(value);
}

function isPlain(value: unknown): boolean {
  return value === null || typeof value !== "object";
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
