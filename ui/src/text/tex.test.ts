import { expect, test } from "vitest";

import { TexError, type MathNode } from "./mathml";
import { readTex } from "./tex";

/** The formula as short text, without attributes but those named. */
function show(tex: string, display = false, ...attributes: string[]): string {
  const one = (node: MathNode | string): string => {
    if (typeof node === "string") return node;
    const shown = attributes.filter((name) => name in node.attributes).map((name) => ` ${name}=${node.attributes[name]}`);
    const inner = node.children.map(one).join("");
    return `<${node.tag}${shown.join("")}>${inner}</${node.tag}>`.replace(/<(mi|mn|mo)>(.*?)<\/\1>/g, "$2");
  };
  return readTex(tex, display).children.map(one).join("");
}

const CASES: [tex: string, shown: string][] = [
  ["x", "x"],
  ["2x+1.5", "<mrow>2x+1.5</mrow>"],
  ["a-b", "<mrow>a−b</mrow>"],
  ["x^2_i", "<msubsup>xi2</msubsup>"],
  ["x_{i,j}^{n+1}", "<msubsup>x<mrow>i,j</mrow><mrow>n+1</mrow></msubsup>"],
  ["f''(x)", "<mrow><msup>f′′</msup>(x)</mrow>"],
  ["{}^{14}C", "<mrow><msup><mrow></mrow>14</msup>C</mrow>"],
  ["\\frac12", "<mfrac>12</mfrac>"],
  ["\\frac{a}{b+c}", "<mfrac>a<mrow>b+c</mrow></mfrac>"],
  ["\\sqrt{x} \\sqrt[3]{y}", "<mrow><msqrt>x</msqrt><mroot>y3</mroot></mrow>"],
  ["\\alpha \\le \\infty", "<mrow>α≤∞</mrow>"],
  ["\\mathbb{R}^n \\mathcal{L} \\mathbf{v}", "<mrow><msup>ℝn</msup>ℒ𝐯</mrow>"],
  ["\\mathrm{kg}", "kg"],
  ["\\text{if } x", "<mrow><mtext>if\u00a0</mtext>x</mrow>"],
  ["\\text{for $n$ up}", "<mrow><mtext>for\u00a0</mtext>n<mtext>\u00a0up</mtext></mrow>"],
  ["\\sin x", "<mrow>sinx</mrow>"],
  ["\\operatorname{softmax}(z)", "<mrow>softmax(z)</mrow>"],
  ["\\left( \\frac ab \\right)", "<mrow>(<mrow><mfrac>ab</mfrac></mrow>)</mrow>"],
  ["\\left. x \\right|_0", "<msub><mrow><mrow>x</mrow>|</mrow>0</msub>"],
  ["\\{1, 2\\}", "<mrow>{1,2}</mrow>"],
  ["\\hat{x} \\vec v \\overline{ab}", "<mrow><mover>x^</mover><mover>v→</mover><mrow><mrow>ab</mrow></mrow></mrow>"],
  ["\\underbrace{a}_{n}", "<munder><munder>a⏟</munder>n</munder>"],
  ["\\binom{n}{k}", "<mrow>(<mfrac>nk</mfrac>)</mrow>"],
  ["a \\not= b \\neq c", "<mrow>a≠b≠c</mrow>"],
  ["\\boxed{42}", "<mrow>42</mrow>"],
  ["\\begin{pmatrix} a & b \\\\ c & d \\end{pmatrix}", "<mrow>(<mtable><mtr><mtd>a</mtd><mtd>b</mtd></mtr><mtr><mtd>c</mtd><mtd>d</mtd></mtr></mtable>)</mrow>"],
  ["\\begin{cases} 1 & x > 0 \\\\ 0 \\end{cases}", "<mrow>{<mtable><mtr><mtd>1</mtd><mtd><mrow>x>0</mrow></mtd></mtr><mtr><mtd>0</mtd></mtr></mtable></mrow>"],
  ["\\begin{align*} a &= b \\\\[2pt] &= c \\\\ \\end{align*}", "<mtable><mtr><mtd>a</mtd><mtd><mrow>=b</mrow></mtd></mtr><mtr><mtd><mrow></mrow></mtd><mtd><mrow>=c</mrow></mtd></mtr></mtable>"],
  ["a \\\\ b", "<mtable><mtr><mtd>a</mtd></mtr><mtr><mtd>b</mtd></mtr></mtable>"],
  ["\\displaystyle x \\, y \\label{z}", "<mrow>x<mspace></mspace>y</mrow>"],
  ["100\\% \\$5", "<mrow>100%$5</mrow>"],
];

for (const [tex, shown] of CASES) test(tex, () => expect(show(tex)).toBe(shown));

test("limits stand above and below where there is room", () => {
  expect(show("\\sum_{i=1}^n i", true)).toContain("<munderover>");
  expect(show("\\sum_{i=1}^n i")).toContain("<msubsup>");
  expect(show("\\lim_{x \\to 0} f", true)).toContain("<munder>");
  expect(show("\\int_0^1 f", true)).toContain("<msubsup>");
  expect(show("\\frac{\\sum_i i}{2}", true)).toContain("<msub>");
  expect(show("\\begin{aligned} \\sum_i i \\end{aligned}", true)).toContain("<munder>");
});

const WRONG = ["\\frac{a}", "x^", "{x", "x}", "\\left( x", "\\begin{foo} x \\end{foo}", "\\begin{matrix} x", "\\href{javascript:x}{y}", "\\def\\a{\\a}\\a", "a_#", "\\"];

for (const tex of WRONG) test(`${tex} is an error`, () => expect(() => readTex(tex, false)).toThrow(TexError));

test("what nests without end is an error, not the end", () => {
  for (const tex of ["{".repeat(10_000), "\\frac".repeat(10_000), "\\sqrt{".repeat(10_000), "x^".repeat(10_000), "\\hat".repeat(10_000)]) {
    expect(() => readTex(tex, true)).toThrow(TexError);
  }
});
