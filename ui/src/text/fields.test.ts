import { expect, test } from "vitest";

import { fieldsOf, type Field } from "./fields";

function inner(field: Field): Field[] {
  return field.kind === "group" || field.kind === "list" ? field.fields : [];
}

test("titles and descriptions come from the schema, names where there are none", () => {
  const schema = {
    type: "object",
    properties: { first_name: { type: "string" }, age: { type: "integer", title: "Years", description: "How old." } },
  };
  expect(inner(fieldsOf({ first_name: "Ada", age: 36 }, schema))).toEqual([
    { kind: "text", label: "First name", description: "", text: "Ada", long: false },
    { kind: "text", label: "Years", description: "How old.", text: "36", long: false },
  ]);
});

test("truth is a flag, and what is no schema says nothing", () => {
  const flag = { kind: "flag", description: "", on: true };
  expect(inner(fieldsOf({ a: true }, { properties: { a: { title: "An A" } } }))).toEqual([{ ...flag, label: "An A" }]);
  for (const none of [null, true, "x", []]) expect(inner(fieldsOf({ a: true }, none))).toEqual([{ ...flag, label: "A" }]);
});

test("references and alternatives are followed", () => {
  const schema = {
    $defs: { point: { title: "Point", type: "object", properties: { x: { title: "Across" } } } },
    properties: { at: { anyOf: [{ type: "null" }, { $ref: "#/$defs/point" }] }, loop: { $ref: "#/properties/loop" } },
  };
  const [at, loop] = inner(fieldsOf({ at: { x: 1 }, loop: 2 }, schema));
  expect(at!.label).toBe("Point");
  expect(inner(at!)[0]!.label).toBe("Across");
  expect(loop).toMatchObject({ kind: "text", text: "2" });
});

test("arrays of flat objects are tables, of plain values and of others lists", () => {
  const schema = { properties: { rows: { items: { properties: { a: { title: "First" } } } } } };
  const value = { rows: [{ a: 1 }, { a: true, b: null }], plain: ["x", 2], tags: ["x", ["y"]], none: [] };
  const [rows, plain, tags, none] = inner(fieldsOf(value, schema));
  expect(plain).toMatchObject({ kind: "values", values: ["x", "2"] });
  expect(rows).toMatchObject({ kind: "table", columns: ["First", "B"], rows: [["1", ""], ["Yes", ""]] });
  expect(tags!.kind).toBe("list");
  expect(inner(tags!)[0]).toMatchObject({ label: "1", text: "x" });
  expect(none!.kind).toBe("nothing");
});

test("what nests without end ends in JSON, and names of objects' own are names like others", () => {
  let deep: unknown = 1;
  for (let i = 0; i < 100; i += 1) deep = { constructor: deep };
  let field = fieldsOf(deep, { properties: {} });
  while (inner(field).length > 0) field = inner(field)[0]!;
  expect(field).toMatchObject({ kind: "text", label: "Constructor" });
});
