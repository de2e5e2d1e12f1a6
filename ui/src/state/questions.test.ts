import { beforeEach, expect, test, vi } from "vitest";

/** A browser's storage, and what its other tabs do to it. */
class Storage {
  [name: string]: unknown;
  getItem = (name: string) => (this[name] as string | undefined) ?? null;
  setItem = (name: string, value: string) => void (this[name] = value);
  removeItem = (name: string) => void delete this[name];
}

let storage: Storage;
let tell: (event: { key: string | null; storageArea: unknown }) => void;

beforeEach(() => {
  vi.resetModules();
  storage = new Storage();
  vi.stubGlobal("localStorage", storage);
  vi.stubGlobal("addEventListener", (_: string, heard: typeof tell) => (tell = heard));
});

vi.setConfig({ testTimeout: 30_000 }); // modules are compiled in the first one

function load() {
  return import("./questions.svelte");
}

const KEY = "janflask.questions.t";

test("a line is kept in its order, and is there after a reload", async () => {
  const line = (await load()).lineOf("t");
  line.add("one", [], null);
  line.add("two", [{ type: "text" }], null);
  vi.resetModules();
  const { lineOf, threadsWithQuestions } = await load();
  expect(lineOf("t").list.map(({ text, parts }) => [text, parts])).toEqual([
    ["one", undefined],
    ["two", [{ type: "text" }]],
  ]);
  expect(threadsWithQuestions()).toEqual(["t"]);
});

test("questions are changed and removed; nothing is left of a line that is empty", async () => {
  const line = (await load()).lineOf("t");
  line.add("one", [], null);
  line.add("two", [], null);
  const [one, two] = line.list;
  line.change(two!.id, { text: "2" });
  line.remove(one!.id);
  expect(line.list.map(({ text }) => text)).toEqual(["2"]);
  line.remove(two!.id);
  expect(KEY in storage).toBe(false);
});

test("another tab's questions are heard, and not lost by a change here", async () => {
  const line = (await load()).lineOf("t");
  const heard = vi.fn();
  line.watch(heard);
  storage[KEY] = JSON.stringify({ list: [{ id: "far", text: "far" }], behind: null });
  line.add("near", [], null); // before the news have come
  expect(line.list.map(({ text }) => text)).toEqual(["far", "near"]);
  storage[KEY] = JSON.stringify({ list: [], behind: null });
  tell({ key: KEY, storageArea: storage });
  expect(line.list).toEqual([]);
  expect(heard).toHaveBeenCalledTimes(2);
});

test("a line goes on behind the run that its first question knew of, or that somebody let it go on behind", async () => {
  const line = (await load()).lineOf("t");
  line.add("one", [], "run_1");
  line.add("two", [], "run_2");
  expect([line.goesOnBehind("run_1"), line.goesOnBehind("run_2")]).toEqual([true, false]);
  line.goOnBehind("run_2");
  expect(line.goesOnBehind("run_2")).toBe(true);
});

test("a browser that keeps nothing does for as long as the tab", async () => {
  storage.setItem = () => {
    throw new DOMException("full", "QuotaExceededError");
  };
  const { lineOf } = await load();
  lineOf("t").add("one", [], null);
  lineOf("t").add("two", [], null);
  expect(lineOf("t").list).toHaveLength(2);
});
