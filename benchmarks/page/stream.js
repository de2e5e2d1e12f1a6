// node stream.js KIND: the longest task of the tab's main thread while an answer of 4,000 tokens streams in. Its words are a
// script's, 400 tokens a second; KIND is what it is made of.

import { SCRIPTED, Server } from "../../ui/tests/server.js";
import { ask, composer, launch, shown, told } from "./driver.js";

const [TOKENS, AT_ONCE, PAUSE] = [4000, 4, 10];
const END = "That was all.";
const KINDS = { mixed, code, paragraph, list, table };
const THREADS = "disabled-by-default-devtools.timeline,devtools.timeline,toplevel,__metadata";

const server = await Server.start({ models: [SCRIPTED] });
const { browser, page } = await launch();
try {
  await page.goto(server.url);
  await warm();
  server.script.says(...paced(tokens(KINDS[process.argv[2]]())));
  await browser.startTracing(page, { categories: THREADS.split(",") });
  const started = performance.now();
  await ask(page, "Tell me all of it.");
  await shown(page, END);
  const seconds = (performance.now() - started) / 1000;
  const { traceEvents } = JSON.parse((await browser.stopTracing()).toString());
  told({ seconds, ...tasks(traceEvents) });
} finally {
  await browser.close();
  await server.end();
}

/** An answer before, so that all parts of the page have come. */
async function warm() {
  server.script.says("# One\n\n```js\nlet a = 1;\n```\n\n\\(x^2\\)\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nReady now.");
  await composer(page).waitFor();
  await ask(page, "Are you there?");
  await shown(page, "Ready now.");
  await page.waitForLoadState("networkidle");
}

/** The renderer's main thread is the one with the most tasks among those of that name. */
function tasks(events) {
  const main = events.filter(({ name, args }) => name === "thread_name" && args.name === "CrRendererMain");
  const of = main.map(({ pid, tid }) => events.filter((event) => event.pid === pid && event.tid === tid));
  const own = of.map((found) => found.filter(({ name, ph }) => name === "RunTask" && ph === "X"));
  const [found] = own.sort((one, other) => other.length - one.length);
  const [walls, cpu] = [found.map(({ dur }) => dur / 1000), found.map(({ tdur }) => (tdur ?? 0) / 1000)];
  const above = walls.filter((took) => took > 50).length;
  return { longest_ms: Math.max(...walls), longest_cpu_ms: Math.max(...cpu), above, busy_ms: sum(cpu) };
}

function sum(numbers) {
  return numbers.reduce((all, number) => all + number, 0);
}

function tokens(text) {
  const found = text.match(/\s*[^\s]{1,6}|\s+$/g);
  return [...found.slice(0, TOKENS), `\n\n${END}`];
}

function paced(pieces) {
  const parts = [];
  for (let at = 0; at < pieces.length; at += AT_ONCE) parts.push(...pieces.slice(at, at + AT_ONCE), PAUSE);
  return parts;
}

function many(of) {
  return Array.from({ length: 2000 }, (_, number) => of(number));
}

function sentence(number) {
  return `Sentence ${number} tells of the *sea*, the **wind** and \`stars[${number}]\`, and goes on for a while.`;
}

function line(number) {
  return `    const value${number} = compute(${number}, "text ${number}") + other.call(/* note */ ${number});`;
}

function mixed() {
  return many((number) => {
    const list = `- one of ${number}\n- another, \\(x_{${number}}^2\\)\n  - below it\n`;
    const table = `| a | b |\n|---|---|\n| ${number} | ${sentence(number)} |\n`;
    const block = `\`\`\`python\ndef f${number}(x):\n    return x + ${number}  # a note\n\`\`\`\n`;
    return `## Part ${number}\n\n${sentence(number)} ${sentence(number + 1)}\n\n${list}\n${table}\n${block}`;
  }).join("\n");
}

function code() {
  return `\`\`\`js\n${many(line).join("\n")}`;
}

function paragraph() {
  return many(sentence).join(" ");
}

function list() {
  return many((number) => `- ${sentence(number)}`).join("\n");
}

function table() {
  return `| number | text |\n|---|---|\n${many((number) => `| ${number} | ${sentence(number)} |`).join("\n")}`;
}
