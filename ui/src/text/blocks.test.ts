import { expect, test } from "vitest";

import { BlockParser } from "./blocks";
import type { Block, Inline } from "./tree";

function parse(...parts: string[]): Block[] {
  const parser = new BlockParser();
  for (const part of parts) {
    parser.append(part);
    void parser.blocks; // what is drawn meanwhile changes nothing
  }
  parser.end();
  return parser.blocks;
}

/** The blocks as short text: what is what can be read off it. */
function show(blocks: Block[]): string {
  return blocks.map(showBlock).join(" ");
}

function showBlock(block: Block): string {
  switch (block.type) {
    case "paragraph":
      return `<p>${block.pieces.map(showInline).join("")}</p>`;
    case "heading":
      return `<h${block.level}>${block.pieces.map(showInline).join("")}</h${block.level}>`;
    case "code":
      return `<code ${block.language}>${block.text}</code>`;
    case "math":
      return `<math>${block.tex}</math>`;
    case "rule":
      return "<hr>";
    case "quote":
      return `<quote>${show(block.children)}</quote>`;
    case "note":
      return `<note ${block.label}>${show(block.children)}</note>`;
    case "list": {
      const items = block.items.map((item) => `<li>${box(item.checked)}${show(item.children)}</li>`).join("");
      const name = block.ordered ? `ol ${block.start}` : "ul";
      return `<${name}${block.loose ? " loose" : ""}>${items}</${name.slice(0, 2)}>`;
    }
    case "table": {
      const cells = (row: Inline[][]) => row.map(showInline).join(" ¦ ");
      return `<table ${block.align.map((side) => side ?? "-").join(" ")}>${[block.head, ...block.rows].map(cells).join("/")}</table>`;
    }
  }
}

function box(checked: boolean | null): string {
  return checked === null ? "" : checked ? "[x]" : "[ ]";
}

function showInline(inlines: Inline[]): string {
  return inlines.map(showOne).join("");
}

function showOne(inline: Inline): string {
  switch (inline.type) {
    case "text":
      return inline.text;
    case "code":
      return `\`${inline.text}\``;
    case "link":
      return `<a ${inline.image ? "image " : ""}${inline.href}>${showInline(inline.children)}</a>`;
    case "ref":
      return `<ref ${inline.label}>${showInline(inline.children)}${inline.after}</ref>`;
    case "note":
      return `<sup>${inline.label}</sup>`;
    case "math":
      return inline.display ? `$$${inline.tex}$$` : `$${inline.tex}$`;
    default:
      return `<${inline.type}>${showInline(inline.children)}</${inline.type}>`;
  }
}

const CASES: [name: string, markdown: string, shown: string][] = [
  ["paragraphs", "one\ntwo\n\nthree", "<p>one\ntwo</p> <p>three</p>"],
  ["headings", "# A\n## B ##\n#no\n\nC\n===\nD\n---", "<h1>A</h1> <h2>B</h2> <p>#no</p> <h1>C</h1> <h2>D</h2>"],
  ["rules", "***\n- - -\n___", "<hr> <hr> <hr>"],
  ["emphasis", "*a* **b** _c_ __d__ ***e*** ~~f~~", "<p><em>a</em> <strong>b</strong> <em>c</em> <strong>d</strong> <em><strong>e</strong></em> <del>f</del></p>"],
  ["no emphasis", "2 * 3 * 4, snake_case_name, ~5 to ~6, \\*a\\*", "<p>2 * 3 * 4, snake_case_name, ~5 to ~6, *a*</p>"],
  ["emphasis beside Chinese", "**强调。**后", "<p><strong>强调。</strong>后</p>"],
  ["nested emphasis", "**a *b* c** *a **b** c*", "<p><strong>a <em>b</em> c</strong> <em>a <strong>b</strong> c</em></p>"],
  ["code", "`a` ``b`c`` `d", "<p>`a` `b`c` `d</p>"],
  ["links", "[a](http://x.y/z) [b](<https://x.y> \"t\") <http://q.r>", "<p><a http://x.y/z>a</a> <a https://x.y/>b</a> <a http://q.r/>http://q.r</a></p>"],
  ["bare links", "see https://a.b/c_d(e)). www.x.y!", "<p>see <a https://a.b/c_d(e)>https://a.b/c_d(e)</a>). <a https://www.x.y/>www.x.y</a>!</p>"],
  ["images are links", "![a cat](https://x.y/z.png)", "<p><a image https://x.y/z.png>a cat</a></p>"],
  ["unsafe links stay text", "[a](javascript:alert(1)) ![b](data:text/html,x) [c](/path) <javascript:x>", "<p>[a](javascript:alert(1)) ![b](data:text/html,x) [c](/path) <javascript:x></p>"],
  ["links by label", "[a][B] [b] [c]\n\n[b]: http://x.y", "<p><ref b>a][B]</ref> <ref b>b]</ref> <ref c>c]</ref></p>"],
  ["HTML is text", "<b onclick=x>a</b><script>\n\n<div>*b*</div>", "<p><b onclick=x>a</b><script></p> <p><div><em>b</em></div></p>"],
  ["line breaks", "a<br>b\\\nc  \nd", "<p>a\nb\nc  \nd</p>"],
  ["entities", "&lt;a&gt; &#65;&#x42; &nope; &constructor;", "<p><a> AB &nope; &constructor;</p>"],
  ["fences", "```py\na\n\n  b\n```\n~~~\nc", "<code py>a\n\n  b</code> <code >c</code>"],
  ["an indented fence", "- a\n  ```js\n  b\n    c\n  ```\n- d", "<ul><li><p>a</p> <code js>b\n  c</code></li><li><p>d</p></li></ul>"],
  ["indented code", "    a\n\n      b\n\nc", "<code >a\n\n  b</code> <p>c</p>"],
  ["lists", "- a\n- b\n\n1. c\n2. d", "<ul><li><p>a</p></li><li><p>b</p></li></ul> <ol 1><li><p>c</p></li><li><p>d</p></li></ol>"],
  ["nested lists", "- a\n  - b\n    1. c\n- d", "<ul><li><p>a</p> <ul><li><p>b</p> <ol 1><li><p>c</p></li></ol></li></ul></li><li><p>d</p></li></ul>"],
  ["loose lists", "- a\n\n- b", "<ul loose><li><p>a</p></li><li><p>b</p></li></ul>"],
  ["a list that starts later", "3. a\n4. b", "<ol 3><li><p>a</p></li><li><p>b</p></li></ol>"],
  ["a number in a paragraph", "In\n2024. It", "<p>In\n2024. It</p>"],
  ["tasks", "- [ ] a\n- [x] b\n- [y] c", "<ul><li>[ ]<p>a</p></li><li>[x]<p>b</p></li><li><p><ref y>y]</ref> c</p></li></ul>"],
  ["quotes", "> a\nb\n> > c\n\nd", "<quote><p>a\nb</p> <quote><p>c</p></quote></quote> <p>d</p>"],
  ["tables", "|a|b|\n|:-|-:|\n|`c`|d\\|e|\n|f\n\ng", "<table left right>a ¦ b/`c` ¦ d|e/f ¦ </table> <p>g</p>"],
  ["a table below text", "x\na | b\n--|--\nc | d", "<p>x</p> <table - ->a ¦ b/c ¦ d</table>"],
  ["no table", "a | b\n-|-|-", "<p>a | b\n-|-|-</p>"],
  ["math", "\\(a_b\\) $x^2$ $$y$$ \\[z\\]", "<p>$a_b$ $x^2$ $$y$$ $$z$$</p>"],
  ["math blocks", "$$\na\n$$\n\\[ b\nc \\]\n\n```math\nd\n```", "<math>a</math> <math>b\nc</math> <math>d</math>"],
  ["math that never ends", "$$\na *b*\n\nc", "<p>$$\na <em>b</em></p> <p>c</p>"],
  ["money", "It is $5 and $10, US$7/US$8, or 5$ to 6$; $20-$30. $1,000.", "<p>It is $5 and $10, US$7/US$8, or 5$ to 6$; $20-$30. $1,000.</p>"],
  ["formulas with numbers", "$2x$ $10$ $1/2$ $3 < x$", "<p>$2x$ $10$ $1/2$ $3 < x$</p>"],
  ["footnotes", "a[^1]\n\n[^1]: b *c*", "<p>a<sup>1</sup></p> <note 1><p>b <em>c</em></p></note>"],
];

for (const [name, markdown, shown] of CASES) {
  test(name, () => expect(show(parse(markdown))).toBe(shown));
}

test("a text is the same however it comes", () => {
  for (const [, markdown] of CASES) {
    const whole = parse(markdown);
    expect(parse(...markdown)).toEqual(whole);
    for (let i = 1; i < markdown.length; i += 1) {
      expect(parse(markdown.slice(0, i), markdown.slice(i))).toEqual(whole);
    }
  }
});

test("what is not closed yet looks as if it were, after each character", () => {
  const text =
    "A **bold word**, `code`, [a link](https://example.com/a/long/address), ~~no~~ more, ***both*** and \\(a_b\\) or \\[ c \\].\n\n" +
    "- one **thing**\n- [ ] two\n\n| a | b |\n|---|---|\n| c | d |\n\n```text\nlet it be\n```\n\n# Title\n";
  const parser = new BlockParser();
  for (const char of text) {
    parser.append(char);
    // The names of elements are not text, and neither is what is shown as code until it is a formula.
    const shown = show(parser.blocks).replace(/`[^`]*`|\$+[^$]*\$+|<[^>]*>/g, "");
    expect(shown).not.toMatch(/[*`~#|]|\]\(|example/);
  }
});

/** How many of the values that stand for `one` are still there in `other`. */
function kept(one: unknown[], other: unknown[]): number {
  return one.filter((value) => other.includes(value)).length;
}

test("what is finished stays the same object, whatever grows behind it", () => {
  const parser = new BlockParser();
  const grow = (text: string): Block[] => {
    const before = parser.blocks;
    parser.append(text);
    expect(kept(before, parser.blocks)).toBeGreaterThanOrEqual(before.length - 1);
    return parser.blocks;
  };
  for (let i = 0; i < 100; i += 1) grow(`Paragraph **${i}**.\n\n`);
  for (let i = 0; i < 100; i += 1) {
    const before = parser.blocks.at(-1)!;
    const list = grow(`- item **${i}**\n`).at(-1)!;
    if (i > 0 && before.type === "list" && list.type === "list") {
      expect(kept(before.items, list.items)).toBeGreaterThanOrEqual(i - 1);
    }
  }
  grow("\n| a | b |\n|---|---|\n");
  for (let i = 0; i < 100; i += 1) {
    const before = parser.blocks.at(-1)!;
    const table = grow(`| **${i}** | b |\n`).at(-1)!;
    if (before.type === "table" && table.type === "table") expect(kept(before.rows, table.rows)).toBe(i);
  }
  grow("\n");
  for (let i = 0; i < 1000; i += 1) {
    const before = parser.blocks.at(-1)!;
    const paragraph = grow(`word *${i}* and `).at(-1)!;
    if (before.type !== "paragraph" || paragraph.type !== "paragraph") continue;
    expect(kept(before.pieces, paragraph.pieces)).toBeGreaterThanOrEqual(before.pieces.length - 1);
    const last = paragraph.pieces.at(-1)!;
    expect(JSON.stringify(last).length).toBeLessThan(20_000); // what is read again has a limit
  }
});

test("long texts come in blocks and pieces of a limited size", () => {
  const paragraphs = parse("word ".repeat(20_000), "y".repeat(50_000));
  expect(paragraphs.length).toBeGreaterThan(5);
  const text = paragraphs.map((block) => (block.type === "paragraph" ? block.pieces.map(showInline).join("") : "")).join("");
  expect(text).toBe("word ".repeat(20_000) + "y".repeat(50_000));
});

test("an emoji is never cut", () => {
  const text = "😀".repeat(20_000);
  for (const start of ["", "x"]) {
    const shown = parse(start + text).flatMap((block) => (block.type === "paragraph" ? block.pieces : []));
    for (const piece of shown) expect(() => encodeURIComponent(showInline(piece))).not.toThrow();
  }
});

const ENDLESS = [
  "> ".repeat(5000),
  "- ".repeat(5000),
  "1. ".repeat(5000),
  "![".repeat(5000),
  "**a *b ".repeat(1000),
  `${"*a **b ".repeat(100)}${"c** d* ".repeat(100)}`,
  `${"[".repeat(300)}x${"]".repeat(300)}`,
];

function depth(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depth));
}

test("what nests without end has an end", () => {
  for (const text of ENDLESS) {
    const blocks = parse(`${text}end`);
    expect(JSON.stringify(blocks)).toContain("end");
    expect(depth(blocks)).toBeLessThan(100);
  }
});
