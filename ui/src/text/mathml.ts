// Elements of MathML, before they are any browser's: https://w3c.github.io/mathml-core/

export interface MathNode {
  tag: string;
  attributes: Record<string, string>;
  children: (MathNode | string)[];
}

/** What was written is no formula that is understood. */
export class TexError extends Error {}

export function node(tag: string, children: (MathNode | string)[], attributes: Record<string, string> = {}): MathNode {
  return { tag, attributes, children };
}

export function row(nodes: MathNode[]): MathNode {
  return nodes.length === 1 ? nodes[0]! : node("mrow", nodes);
}

/** `width`: in em. */
export function space(width: number): MathNode {
  return node("mspace", [], { width: `${width.toFixed(4)}em` });
}

/** `inner` between delimiters that are as high as it is; "" is none. */
export function fenced(left: string, inner: MathNode, right: string): MathNode {
  const side = (char: string, form: string) =>
    char === "" ? [] : [node("mo", [char], { form, stretchy: "true", fence: "true" })];
  return node("mrow", [...side(left, "prefix"), inner, ...side(right, "postfix")]);
}
