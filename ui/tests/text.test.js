// What a model's Markdown looks like, and that nothing in it runs.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { axe, close, launch, open } from "./browser.js";
import { SCRIPTED, Server, until } from "./server.js";

let browser, server;
before(async () => ([browser, server] = await Promise.all([launch(), Server.start({ models: [SCRIPTED] })])));
after(async () => {
  await browser?.close();
  await server?.end();
});

/** A page that shows this answer, and what it is shown in. */
async function show(markdown, options = {}) {
  const thread = await server.thread("Shown", [["user", "Show it."], ["assistant", markdown]]);
  const page = await open(browser, server, `#/c/${thread.id}`, options);
  const answer = page.locator(".markdown").last();
  await until(async () => (await answer.innerText()).trim() !== "Show it.", "the answer");
  return { page, answer };
}

const TOUR = `# Tour

A **bold**, *soft*, ~~old~~ word, \`code\`, [a link](https://example.com/there "t") and https://example.com/bare.
A line of its own. ![A cat](https://example.com/cat.png)

- one
  1. first
  2. second
- [x] done
- [ ] to do

> Quoted.

| Name | Value |
|:-----|------:|
| pi   | \\(\\pi\\) |

\`\`\`python
# a comment
def square(x):
    return x ** 2  # ${"long ".repeat(40)}
\`\`\`

\\[ \\frac{a}{b} + \\sqrt{x^2} \\]

Said before[^1].

[^1]: A note.
`;

test("everything that Markdown has is an element", async () => {
  const { page, answer } = await show(TOUR);
  await answer.getByRole("heading", { name: "Tour" }).waitFor();
  assert.equal(await answer.locator("strong").innerText(), "bold");
  assert.equal(await answer.locator("em").innerText(), "soft");
  assert.equal(await answer.locator("del").innerText(), "old");
  const shown = "A bold, soft, old word, code, a link and https://example.com/bare.\nA line of its own. A cat";
  assert.equal(await answer.locator("p").first().textContent(), shown);
  const link = answer.getByRole("link", { name: "a link" });
  assert.equal(await link.getAttribute("href"), "https://example.com/there");
  assert.equal(await link.getAttribute("title"), "https://example.com/there");
  assert.equal(await link.getAttribute("rel"), "noopener noreferrer");
  assert.equal(await link.getAttribute("target"), "_blank");
  assert.equal(await answer.locator("img").count(), 0);
  assert.equal(await answer.getByRole("link", { name: "A cat" }).getAttribute("href"), "https://example.com/cat.png");
  assert.deepEqual(await answer.locator("ol > li").allInnerTexts(), ["first", "second"]);
  assert.equal(await answer.getByRole("checkbox", { name: "Done" }).isChecked(), true);
  assert.equal(await answer.getByRole("checkbox", { name: "To do" }).isChecked(), false);
  assert.equal(await answer.locator("blockquote").innerText(), "Quoted.");
  await answer.getByRole("columnheader", { name: "Value" }).waitFor();
  await answer.locator("td math").waitFor();
  await answer.locator("math mfrac").waitFor();
  await answer.locator(".code-comment").first().waitFor();
  assert.deepEqual(await axe(page), []);
  await close(page);
});

test("code is copied as it is, and keeps its text when it is coloured", async () => {
  const code = Array.from({ length: 100 }, (_, i) => `const a${i} = "<b>${i}</b>"; // & ${i}`).join("\n");
  const context = { permissions: ["clipboard-read", "clipboard-write"] };
  const { page, answer } = await show(`\`\`\`js\n${code}\n\`\`\``, context);
  await answer.locator(".code-string").first().waitFor();
  assert.equal(await answer.locator("pre").textContent(), code);
  await answer.getByRole("button", { name: "Copy code" }).click();
  await answer.getByRole("button", { name: "Copied" }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), code);
  await close(page);
});

const HOSTILE = `<script>document.title = "taken"</script>
<img src=x onerror="document.title='taken'"> <svg onload="document.title='taken'"><a xlink:href="javascript:x">y</a></svg>
<iframe src="https://example.com"></iframe> <style>body { display: none }</style>
[one](javascript:document.title='taken') [two](data:text/html,<script>x</script>) <javascript:x> [three](JaVaScRiPt:x)
[four](vbscript:x) [five](#/models) [six](//example.com/x) ![seven](javascript:x) [eight]( javascript:x )
[a"onclick="document.title='taken'](https://example.com/"onmouseover="x) \\(\\href{javascript:x}{y}\\) \\(\\class{x}{y}\\)
\`\`\`<b>"onclick=x
</code></pre><script>document.title = "taken"</script>
\`\`\`
`;

test("what a model writes stays text", async () => {
  const { page, answer } = await show(HOSTILE);
  const text = await answer.innerText();
  for (const part of ['<script>document.title = "taken"</script>', "<img src=x onerror=", "<svg onload=", "<iframe", "<style>"]) {
    assert.ok(text.includes(part), part);
  }
  assert.equal(await answer.locator("script, img, svg, iframe, style, object, embed, form, base, meta").count(), 0);
  const hrefs = await answer.locator("a").evaluateAll((links) => links.map((link) => link.href));
  for (const href of hrefs) assert.match(href, /^(https?|mailto):/);
  assert.ok(text.includes("[one](javascript:document.title='taken')"), "the source of a link that is not followed");
  const handlers = await answer.locator("*").evaluateAll((all) =>
    all.flatMap(({ attributes }) => [...attributes].map(({ name }) => name)).filter((name) => name.startsWith("on")),
  );
  assert.deepEqual(handlers, []);
  assert.notEqual(await page.title(), "taken");
  await close(page);
});

test("what nests without end, and a megabyte, is shown", async () => {
  const deep = ["> ".repeat(2000), "- ".repeat(2000), "[".repeat(2000), "*a **b ".repeat(500), "\\({{".repeat(500)];
  const { page, answer } = await show(`${deep.map((line) => `${line}end`).join("\n\n")}\n\n\\(${"{".repeat(5000)}\\)`);
  await until(async () => (await answer.innerText()).match(/end/g)?.length === deep.length, "the ends of all lines");
  await close(page);

  const parts = [
    "Words *and* words and [a link](https://example.com) and `code`. ".repeat(1000),
    "Plain words and plain words. ".repeat(15_000),
    "- an item of a list\n".repeat(2000),
    "y".repeat(200_000),
    `\`\`\`js\n${"a line of code, that is as long as lines of code are\n".repeat(5000)}\`\`\``,
    "The end.",
  ];
  const long = await show(parts.join("\n\n"));
  const ended = () => long.answer.locator("> :last-child").evaluate((last) => last.textContent === "The end.");
  await until(ended, "the end of a long text");
  assert.equal(await long.answer.locator("li").count(), 2000);
  await close(long.page);
});

for (const colorScheme of ["light", "dark"]) {
  test(`axe finds nothing in an answer, ${colorScheme}, on a phone`, async () => {
    const { page, answer } = await show(TOUR, { colorScheme, viewport: { width: 360, height: 740 } });
    await answer.locator("math mfrac").waitFor();
    await answer.locator(".code-comment").first().waitFor();
    assert.deepEqual(await axe(page), []);
    await close(page);
  });
}
