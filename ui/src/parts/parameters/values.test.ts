import { expect, test } from "vitest";

import { grouped, holding, PARAMETERS, SETTINGS, type Known } from "./known";
import { fromText, rangeOf, toText, Unfit } from "./values";

const BY_NAME = new Map([...PARAMETERS, ...SETTINGS].map((known) => [known.name, known]));

function known(name: string): Known {
  return BY_NAME.get(name)!;
}

test("the first layer that says something wins", () => {
  const layers = [
    { label: "here", values: { top_p: null } },
    { label: "the model", values: { temperature: 0, top_p: 0.5 } },
  ];
  expect(holding(known("temperature"), layers)).toEqual({ value: 0, from: layers[1] });
  expect(holding(known("top_p"), layers).value).toBe(0.5);
  expect(holding(known("min_p"), layers)).toEqual({ value: 0.05, from: null });
});

test.each([
  ["temperature", "0.7", 0.7],
  ["temperature", "0,7", 0.7],
  ["top_k", " 40 ", 40],
  ["temperature", "", null],
  ["stop", "END\n\\n\\n", ["END", "\n\n"]],
  ["logit_bias", '{"12": -100}', { "12": -100 }],
  ["enable_thinking", "false", false],
  ["cache_type_k", "q8_0", "q8_0"],
  ["prompt_template", " {prompt} ", " {prompt} "],
])("%s: %j is a value, and back", (name, text, value) => {
  expect(fromText(known(name), text)).toEqual(value);
  expect(fromText(known(name), toText(known(name), value))).toEqual(value);
});

test.each([
  ["temperature", "warm"],
  ["temperature", "3"],
  ["top_k", "1.5"],
  ["logit_bias", "{"],
  ["logit_bias", "12"],
])("%s: %j is refused", (name, text) => {
  expect(() => fromText(known(name), text)).toThrow(Unfit);
});

test("a refusal says what is right", () => {
  expect(() => fromText(known("temperature"), "3")).toThrow("Temperature must be a number from 0 to 2.");
  expect(rangeOf(known("ctx_len"))).toBe("16 to 16,777,216");
});

test("groups keep the order of the table", () => {
  expect(grouped(PARAMETERS).flatMap(([, list]) => list)).toEqual(PARAMETERS);
});
