// Who draws formulas: Temml, TeX to MathML. This comes in a file of its own, when it is needed.

import temml from "temml";

import "./math.css";

/** The formula as a tree of elements, each made by name; null if it cannot be read. */
export function draw(tex: string, display: boolean): Node | null {
  try {
    // Sizes have a limit, and nothing is trusted: no addresses, no pictures, no classes.
    const options = { displayMode: display, throwOnError: true, trust: false, maxSize: [20, 100] as [number, number] };
    return (temml.__renderToMathMLTree(tex, options) as { toNode(): Node }).toNode();
  } catch {
    return null;
  }
}
