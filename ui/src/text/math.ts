// Formulas as elements, each made by name. This comes in a file of its own, when it is needed.

import { TexError, type MathNode } from "./mathml";
import { readTex } from "./tex";

const MATHML = "http://www.w3.org/1998/Math/MathML";

/** The formula; null if it cannot be read. `display`: on a line of its own. */
export function draw(tex: string, display: boolean): Element | null {
  try {
    return element(readTex(tex, display));
  } catch (error) {
    if (error instanceof TexError) return null;
    throw error;
  }
}

function element(node: MathNode): Element {
  const made = document.createElementNS(MATHML, node.tag);
  for (const [name, value] of Object.entries(node.attributes)) made.setAttribute(name, value);
  made.append(...node.children.map((child) => (typeof child === "string" ? child : element(child))));
  return made;
}
