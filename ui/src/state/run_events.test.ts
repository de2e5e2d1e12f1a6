import { expect, test, vi } from "vitest";

import { howOften } from "./run_events";

vi.mock("../api/client", () => ({})); // it needs a document

test.each(["localhost", "127.0.0.1", "[::1]"])("at %s a small machine is looked at less often than a large one", (host) => {
  expect(howOften(host, 2)).toBeGreaterThan(howOften(host, 16));
});

test("a server elsewhere has processors of its own", () => {
  expect(howOften("models.example", 2)).toBe(howOften("localhost", 16));
});
