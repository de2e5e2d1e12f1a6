import { expect, test, vi } from "vitest";

vi.stubGlobal("location", { hash: "" });
vi.stubGlobal("addEventListener", () => undefined);

const { linkTo, NEW, parseRoute } = await import("./route.svelte");

test.each(["thread_1", "a/b", "100 %", "ü"])("the link to a conversation leads to it: %s", (id) => {
  expect(parseRoute(linkTo({ screen: "thread", id }))).toEqual({ screen: "thread", id });
});

test("an address that leads nowhere is one of the page all the same", () => {
  expect(parseRoute("#/nowhere")).toEqual(NEW);
  expect(parseRoute("#/%")).toEqual(NEW);
  expect(parseRoute("#/c/%E0%A4")).toEqual({ screen: "thread", id: "%E0%A4" });
});
