// TeX's formulas, as models write them, as a tree of MathML: https://w3c.github.io/mathml-core/
// A command that is not known is an error: better the source than half a formula.

import { fenced, node, row, space, TexError, type MathNode } from "./mathml";
import { BIG, environment, isEnvironment, lines } from "./tex_layout";
import {
  ACCENTS,
  BELOW,
  DELIMITERS,
  FUNCTIONS,
  INTEGRALS,
  LARGE,
  LETTERS,
  LIMITS,
  OPERATORS,
  SPACES,
  styled,
  STYLES,
  WIDE,
} from "./tex_symbols";

const DEPTH = 60;
const THIN = "0.1667em";
const TOKEN = /\s+|%[^\n]*|\\(?:operatorname\*|[a-zA-Z]+|[^a-zA-Z])|\d+(?:\.\d+)?|./gsuy;
const RELATIONS = new Set("=<>:+*,;!?/");
const TEXTS = new Set(["text", "textrm", "textnormal", "textbf", "textit", "textsf", "texttt", "mbox", "hbox"]);
const IGNORED = new Set(
  "displaystyle textstyle scriptstyle scriptscriptstyle limits nolimits nonumber notag hline relax allowbreak".split(" "),
);

/** The formula. `display`: on a line of its own. Raises TexError. */
export function readTex(tex: string, display: boolean): MathNode {
  const reader = new TexReader(tex.match(TOKEN) ?? [], display);
  const inner = lines(reader);
  if (reader.peek() !== "") throw new TexError(`${reader.peek()} closes nothing`);
  return node("math", [inner], display ? { display: "block" } : {});
}

export class TexReader {
  #at = 0;
  #depth = 0;
  #style = "";

  constructor(
    readonly tokens: string[],
    /** Limits stand above and below. */
    public display: boolean,
  ) {}

  /** The next token that is no white space, left where it is; "" at the end. */
  peek(): string {
    while (/^[\s%]/.test(this.tokens[this.#at] ?? "")) this.#at += 1;
    return this.tokens[this.#at] ?? "";
  }

  next(): string {
    const token = this.peek();
    this.#at += 1;
    return token;
  }

  expect(token: string): void {
    const found = this.next();
    if (found !== token) throw new TexError(`${token} is missing`);
  }

  takes(token: string): boolean {
    const here = this.peek() === token;
    if (here) this.#at += 1;
    return here;
  }

  /** What stands before a closing token, or one that `ends` the row; that one is left. */
  row(ends: (token: string) => boolean): MathNode[] {
    this.#deeper();
    const nodes: MathNode[] = [];
    for (let token = this.peek(); token !== "" && token !== "}" && !ends(token); token = this.peek()) {
      if (token === "&" || token === "\\\\" || token === "\\right" || token === "\\end") break;
      const atom = this.#scripted(nodes.at(-1));
      if (atom !== null) nodes.push(atom);
    }
    this.#depth -= 1;
    return nodes;
  }

  #deeper(): void {
    this.#depth += 1;
    if (this.#depth > DEPTH) throw new TexError("too deep");
  }

  /** An argument: a group in braces, or the next atom. */
  argument(display = false): MathNode {
    this.#deeper();
    const outer = this.display;
    this.display = display;
    let found: MathNode | null;
    if (this.takes("{")) {
      found = row(this.row(() => false));
      this.expect("}");
    } else found = this.#atom(this.#nextChar(), undefined);
    this.display = outer;
    this.#depth -= 1;
    return found ?? node("mrow", []);
  }

  /** The next token, but of a number only a digit. */
  #nextChar(): string {
    const token = this.next();
    if (token.length === 1 || token.startsWith("\\")) return token;
    this.#at -= 1;
    this.tokens[this.#at] = token.slice(1);
    return token.slice(0, 1);
  }

  /** The text of a group in braces, as it was written. */
  raw(): string {
    this.expect("{");
    let text = "";
    for (let depth = 1; ; this.#at += 1) {
      const token = this.tokens[this.#at];
      if (token === undefined) throw new TexError("} is missing");
      if (token === "{") depth += 1;
      if (token === "}") depth -= 1;
      if (depth === 0) break;
      text += token;
    }
    this.#at += 1;
    return text;
  }

  optional(): MathNode | null {
    if (!this.takes("[")) return null;
    const inner = row(this.row((token) => token === "]"));
    this.expect("]");
    return inner;
  }

  delimiter(): string {
    const token = this.next();
    const name = token === "\\|" ? "Vert" : token.replace(/^\\/, "");
    const found = DELIMITERS.get(name);
    if (found === undefined) throw new TexError(`${token} is no delimiter`);
    return found === "." ? "" : found;
  }

  /** An atom with what stands above and below it. */
  #scripted(before: MathNode | undefined): MathNode | null {
    const token = this.peek();
    const bare = token === "^" || token === "_" || token === "'";
    const base = bare ? node("mrow", []) : this.#atom(this.next(), before);
    if (base === null) return null;
    let sub: MathNode | null = null;
    let sup: MathNode | null = null;
    let limits = this.display && base.attributes.movablelimits === "true";
    for (;;) {
      if (this.takes("\\limits")) limits = true;
      else if (this.takes("\\nolimits")) limits = false;
      else if (this.peek() === "'") sup = primes(this);
      else if (sub === null && this.takes("_")) sub = this.argument();
      else if (this.takes("^")) {
        const above = this.argument();
        sup = sup === null ? above : node("mrow", [sup, above]);
      } else break;
    }
    limits ||= base.tag === "munder" || base.tag === "mover" ? base.attributes.class === "brace" : false;
    if (limits && base.tag === "mo") base.attributes.movablelimits = "false";
    if (sub !== null && sup !== null) return node(limits ? "munderover" : "msubsup", [base, sub, sup]);
    if (sub !== null) return node(limits ? "munder" : "msub", [base, sub]);
    return sup === null ? base : node(limits ? "mover" : "msup", [base, sup]);
  }

  #atom(token: string, before: MathNode | undefined): MathNode | null {
    if (token === "") throw new TexError("something is missing at the end");
    if (token === "{") {
      const inner = this.row(() => false);
      this.expect("}");
      return node("mrow", inner);
    }
    if (token.startsWith("\\")) return this.#command(token.slice(1), before);
    return this.#char(token);
  }

  #char(token: string): MathNode {
    if (/^\d/.test(token)) return node("mn", [[...token].map((digit) => styled(digit, this.#style)).join("")]);
    if (token === "-") return node("mo", ["−"]);
    if (token === "~") return space(1 / 4);
    if (RELATIONS.has(token)) return node("mo", [token]);
    if ("()[]|".includes(token)) return node("mo", [token], { stretchy: "false" });
    if (/^\p{L}$/u.test(token)) return this.#letter(token);
    if ("}&#^_$".includes(token)) throw new TexError(`${token} stands where it cannot`);
    return node(/^[\p{Sm}\p{So}]$/u.test(token) ? "mo" : "mtext", [token]);
  }

  #letter(char: string): MathNode {
    return node("mi", [styled(char, this.#style)], this.#style === "upright" ? { mathvariant: "normal" } : {});
  }

  #command(name: string, before: MathNode | undefined): MathNode | null {
    const letter = LETTERS.get(name);
    if (letter !== undefined) return this.#letter(letter);
    const operator = OPERATORS.get(name);
    if (operator !== undefined) return node("mo", [operator], name === "colon" ? { lspace: "0" } : {});
    const large = LARGE.get(name);
    if (large !== undefined) return node("mo", [large], { movablelimits: "true" });
    const integral = INTEGRALS.get(name);
    if (integral !== undefined) return node("mo", [integral]);
    if (FUNCTIONS.has(name)) return this.#function(name, LIMITS.has(name), before);
    const width = SPACES.get(name);
    if (width !== undefined) return space(width);
    if (IGNORED.has(name)) return null;
    const style = STYLES.get(name);
    if (style !== undefined) return this.#styledBy(style);
    if (TEXTS.has(name)) return this.#text();
    if (ACCENTS.has(name) || BELOW.has(name)) return this.#accent(name);
    if (BIG.has(name)) return this.#big(BIG.get(name)!);
    if (name !== "uparrow" && DELIMITERS.has(name)) return node("mo", [DELIMITERS.get(name)!], { stretchy: "false" });
    if (name === "|") return node("mo", ["‖"], { stretchy: "false" });
    return this.#structure(name, before);
  }

  #structure(name: string, before: MathNode | undefined): MathNode | null {
    switch (name) {
      case "frac":
      case "tfrac":
      case "dfrac":
      case "cfrac":
        return fraction(name, this.argument(), this.argument());
      case "binom":
      case "dbinom":
      case "tbinom":
        return fenced("(", node("mfrac", [this.argument(), this.argument()], { linethickness: "0" }), ")");
      case "sqrt": {
        const index = this.optional();
        return index === null ? node("msqrt", [this.argument()]) : node("mroot", [this.argument(), index]);
      }
      case "left":
        return this.#fence();
      case "begin": {
        const kind = this.raw();
        if (!isEnvironment(kind)) throw new TexError(`${kind} is not known`);
        return environment(this, kind);
      }
      case "substack": {
        this.expect("{");
        const stack = environment(this, "substack");
        this.expect("}");
        return stack;
      }
      case "operatorname":
      case "operatorname*":
        return this.#function(this.raw().replace(/\\[,;: ]/g, "\u2009"), name.endsWith("*"), before);
      case "overset":
      case "stackrel": {
        const above = this.argument();
        return node("mover", [this.argument(), above]);
      }
      case "underset": {
        const below = this.argument();
        return node("munder", [this.argument(), below]);
      }
      case "xrightarrow":
      case "xleftarrow":
        return this.#arrow(name === "xrightarrow" ? "→" : "←");
      case "not":
        return this.#negated();
      case "overline":
      case "underline":
        return node("mrow", [this.argument(this.display)], { class: name });
      case "boxed":
      case "fbox":
        return node("mrow", [this.argument(this.display)], { class: "boxed" });
      case "cancel":
      case "bcancel":
      case "xcancel":
        return node("mrow", [this.argument()], { class: "cancelled" });
      case "phantom":
      case "hphantom":
        return node("mphantom", [this.argument()]);
      case "pmod":
        return row([space(1), node("mtext", ["(mod\u00a0"]), this.argument(), node("mtext", [")"])]);
      case "mod":
        return row([space(1), node("mtext", ["mod\u00a0"])]);
      case "tag":
        return row([space(2), node("mtext", [`(${this.raw()})`])]);
      case "hspace":
        this.raw();
        return space(1);
      case "label":
      case "color":
        this.raw();
        return null;
      case "textcolor":
        this.raw();
        return this.argument(this.display);
      case "mathop":
      case "mathrel":
      case "mathbin":
      case "mathord":
      case "mathopen":
      case "mathclose":
      case "mathstrut":
      case "ensuremath":
        return this.argument(this.display);
      default:
        throw new TexError(`\\${name} is not known`);
    }
  }

  /** Words in a formula, which may hold formulas. */
  #text(): MathNode {
    const parts = this.raw().split(/(?<!\\)\$/);
    return row(parts.map((part, i) => (i % 2 === 1 ? lines(new TexReader(part.match(TOKEN) ?? [], false)) : words(part))));
  }

  #styledBy(style: string): MathNode {
    const outer = this.#style;
    this.#style = style;
    const inner = this.argument(this.display);
    this.#style = outer;
    const letters = inner.tag === "mrow" ? inner.children : [];
    const isWord = letters.length > 1 && letters.every((child) => typeof child !== "string" && child.tag === "mi");
    if (style !== "upright" || !isWord) return inner;
    return node("mi", [letters.map((child) => (child as MathNode).children.join("")).join("")]);
  }

  /** A name in upright letters, with a thin space to what it is next to. */
  #function(name: string, limits: boolean, before: MathNode | undefined): MathNode {
    const after = this.peek();
    const tight = after === "" || "([{^_,)]}&'".includes(after) || after === "\\left" || after === "\\right";
    const attributes: Record<string, string> = {
      form: "prefix",
      lspace: before === undefined || before.tag === "mo" ? "0" : THIN,
      rspace: tight && after !== "^" && after !== "_" && after !== "{" ? "0" : THIN,
    };
    if (limits) attributes.movablelimits = "true";
    const text = name.replace(/^(lim|arg)(?=inf|sup|max|min)/, "$1\u2009");
    return node("mo", [text], attributes);
  }

  #accent(name: string): MathNode {
    const above = ACCENTS.get(name);
    const mark = node("mo", [above ?? BELOW.get(name)!], { stretchy: String(WIDE.test(name)) });
    const base = this.argument(this.display);
    const attributes: Record<string, string> = above === undefined ? { accentunder: "true" } : { accent: "true" };
    if (/brac/.test(name)) attributes.class = "brace";
    return node(above === undefined ? "munder" : "mover", [base, mark], attributes);
  }

  #big(size: string): MathNode {
    return node("mo", [this.delimiter()], { minsize: size, maxsize: size, stretchy: "true", symmetric: "true" });
  }

  #fence(): MathNode {
    const left = this.delimiter();
    const parts: MathNode[] = [];
    for (;;) {
      parts.push(...this.row((token) => token === "\\middle"));
      if (!this.takes("\\middle")) break;
      parts.push(node("mo", [this.delimiter()], { stretchy: "true", fence: "true", lspace: THIN, rspace: THIN }));
    }
    this.expect("\\right");
    return fenced(left, node("mrow", parts), this.delimiter());
  }

  #arrow(char: string): MathNode {
    const below = this.optional();
    const above = node("mpadded", [this.argument()], { lspace: "0.4em", width: "+0.8em" });
    const arrow = node("mo", [char], { stretchy: "true" });
    return below === null ? node("mover", [arrow, above]) : node("munderover", [arrow, below, above]);
  }

  #negated(): MathNode {
    const of = this.argument();
    const char = of.children[0];
    if (typeof char !== "string") throw new TexError("\\not stands before no symbol");
    return { ...of, children: [`${char}\u0338`.normalize()] };
  }
}

function words(text: string): MathNode {
  return node("mtext", [text.replace(/\\([%$#&_{} ])/g, "$1").replace(/^\s+|\s+$/g, "\u00a0")]);
}

function primes(reader: TexReader): MathNode {
  let count = 0;
  while (reader.takes("'")) count += 1;
  return node("mo", ["′".repeat(count)]);
}

function fraction(name: string, above: MathNode, below: MathNode): MathNode {
  const inner = node("mfrac", [above, below]);
  if (name === "frac") return inner;
  return node("mstyle", [inner], { displaystyle: String(name !== "tfrac"), scriptlevel: "0" });
}
