// The names that TeX has for characters, by what they are in a formula.

function table(names: string): Map<string, string> {
  const parts = names.trim().split(/\s+/);
  return new Map(parts.flatMap((name, i) => (i % 2 === 0 ? [[name, parts[i + 1]!] as const] : [])));
}

/** Letters and the like. */
export const LETTERS = table(`
  alpha α beta β gamma γ delta δ epsilon ϵ varepsilon ε zeta ζ eta η theta θ vartheta ϑ iota ι kappa κ varkappa ϰ lambda λ
  mu μ nu ν xi ξ omicron ο pi π varpi ϖ rho ρ varrho ϱ sigma σ varsigma ς tau τ upsilon υ phi ϕ varphi φ chi χ psi ψ omega ω
  digamma ϝ Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Upsilon Υ Phi Φ Psi Ψ Omega Ω
  aleph ℵ beth ℶ gimel ℷ ell ℓ hbar ℏ hslash ℏ imath ı jmath ȷ wp ℘ Re ℜ Im ℑ infty ∞ emptyset ∅ varnothing ∅ nabla ∇
  partial ∂ eth ð mho ℧ angle ∠ measuredangle ∡ triangle △ square □ Box □ blacksquare ■ qed ∎ diamond ⋄ Diamond ◊ lozenge ◊
  bigstar ★ top ⊤ bot ⊥ forall ∀ exists ∃ nexists ∄ neg ¬ lnot ¬ flat ♭ natural ♮ sharp ♯ clubsuit ♣ diamondsuit ♢
  heartsuit ♡ spadesuit ♠ prime ′ backprime ‵ degree ° checkmark ✓ S § P ¶ copyright © pounds £ yen ¥ dag † ddag ‡
  ldots … dots … dotsc … vdots ⋮ ddots ⋱ AA Å complement ∁ % % $ $ # # & & _ _
`);

/** Operators and relations. */
export const OPERATORS = table(`
  cdots ⋯ dotsb ⋯ dotsm ⋯ times × div ÷ cdot ⋅ pm ± mp ∓ ast ∗ star ⋆ circ ∘ bullet ∙ oplus ⊕ ominus ⊖ otimes ⊗ oslash ⊘
  odot ⊙ cap ∩ cup ∪ sqcap ⊓ sqcup ⊔ uplus ⊎ vee ∨ lor ∨ wedge ∧ land ∧ setminus ∖ smallsetminus ∖ wr ≀ amalg ⨿ dagger †
  ddagger ‡ ltimes ⋉ rtimes ⋊ triangleleft ◁ triangleright ▷ bmod mod
  le ≤ leq ≤ leqslant ⩽ ge ≥ geq ≥ geqslant ⩾ ne ≠ neq ≠ ll ≪ gg ≫ lt < gt > prec ≺ succ ≻ preceq ⪯ succeq ⪰ sim ∼ simeq ≃
  approx ≈ approxeq ≊ cong ≅ equiv ≡ asymp ≍ doteq ≐ propto ∝ varpropto ∝ triangleq ≜ coloneqq ≔ models ⊨ vDash ⊨ vdash ⊢
  dashv ⊣ Vdash ⊩ perp ⟂ parallel ∥ nparallel ∦ mid ∣ nmid ∤ in ∈ notin ∉ ni ∋ owns ∋ subset ⊂ supset ⊃ subseteq ⊆
  supseteq ⊇ subsetneq ⊊ supsetneq ⊋ nsubseteq ⊈ sqsubseteq ⊑ sqsupseteq ⊒ bowtie ⋈ therefore ∴ because ∵ smile ⌣ frown ⌢
  lesssim ≲ gtrsim ≳ nless ≮ ngtr ≯ nleq ≰ ngeq ≱ trianglelefteq ⊴ trianglerighteq ⊵
  to → rightarrow → leftarrow ← gets ← leftrightarrow ↔ Rightarrow ⇒ Leftarrow ⇐ Leftrightarrow ⇔ implies ⟹ impliedby ⟸
  iff ⟺ longrightarrow ⟶ longleftarrow ⟵ longleftrightarrow ⟷ Longrightarrow ⟹ Longleftarrow ⟸ Longleftrightarrow ⟺
  mapsto ↦ longmapsto ⟼ hookrightarrow ↪ hookleftarrow ↩ uparrow ↑ downarrow ↓ updownarrow ↕ Uparrow ⇑ Downarrow ⇓ nearrow ↗
  searrow ↘ swarrow ↙ nwarrow ↖ rightharpoonup ⇀ rightharpoondown ⇁ leftharpoonup ↼ leftharpoondown ↽ rightleftharpoons ⇌
  leftrightharpoons ⇋ rightrightarrows ⇉ leadsto ⇝ rightsquigarrow ⇝ twoheadrightarrow ↠ nrightarrow ↛ nRightarrow ⇏ colon :
`);

/** Large operators, whose limits stand above and below them in a formula of its own line. */
export const LARGE = table(`
  sum ∑ prod ∏ coprod ∐ bigcup ⋃ bigcap ⋂ bigvee ⋁ bigwedge ⋀ bigoplus ⨁ bigotimes ⨂ bigodot ⨀ biguplus ⨄ bigsqcup ⨆
`);

export const INTEGRALS = table("int ∫ iint ∬ iiint ∭ oint ∮ oiint ∯ intop ∫");

export const DELIMITERS = table(`
  ( ( ) ) [ [ ] ] | | / / { { } } . . < ⟨ > ⟩ langle ⟨ rangle ⟩ lbrace { rbrace } lbrack [ rbrack ] lceil ⌈ rceil ⌉ lfloor ⌊
  rfloor ⌋ vert | lvert | rvert | Vert ‖ lVert ‖ rVert ‖ backslash ∖ uparrow ↑ downarrow ↓ ulcorner ⌜ urcorner ⌝ lgroup ⟮
  rgroup ⟯
`);

/** Marks above ("over") or below a letter or a formula. */
export const ACCENTS = table(`
  hat ^ widehat ^ tilde ~ widetilde ~ bar ¯ vec → overrightarrow → overleftarrow ← overleftrightarrow ↔ dot ˙ ddot ¨
  dddot ⃛ check ˇ breve ˘ acute ´ grave \` mathring ˚ overbrace ⏞ overbracket ⎴
`);
export const BELOW = table("underbrace ⏟ underbracket ⎵ underrightarrow → underleftarrow ←");
/** Those that are as wide as what they stand at. */
export const WIDE = /^(?:wide|over|under)/;

/** Functions that are written upright; those in `LIMITS` have what stands below them below. */
export const FUNCTIONS = new Set(
  (
    "sin cos tan cot sec csc sinh cosh tanh coth arcsin arccos arctan arg deg dim exp hom ker lg ln log " +
    "det gcd inf lim liminf limsup max min Pr sup argmax argmin"
  ).split(" "),
);
export const LIMITS = new Set("det gcd inf lim liminf limsup max min Pr sup argmax argmin".split(" "));

/** Widths of spaces, in em. */
export const SPACES = new Map<string, number>([
  [",", 1 / 6],
  ["thinspace", 1 / 6],
  [":", 2 / 9],
  [">", 2 / 9],
  ["medspace", 2 / 9],
  [";", 5 / 18],
  ["thickspace", 5 / 18],
  ["!", -1 / 6],
  [" ", 1 / 4],
  ["enspace", 1 / 2],
  ["quad", 1],
  ["qquad", 2],
]);

/** Where Unicode has the letters A, a and the digit 0 of an alphabet, and what it has elsewhere. */
interface Alphabet {
  capital: number;
  small: number;
  digit?: number;
  elsewhere?: string;
}

const ALPHABETS: Record<string, Alphabet> = {
  bold: { capital: 0x1d400, small: 0x1d41a, digit: 0x1d7ce },
  boldItalic: { capital: 0x1d468, small: 0x1d482, digit: 0x1d7ce },
  double: { capital: 0x1d538, small: 0x1d552, digit: 0x1d7d8, elsewhere: "CℂHℍNℕPℙQℚRℝZℤ" },
  script: { capital: 0x1d49c, small: 0x1d4b6, elsewhere: "BℬEℰFℱHℋIℐLℒMℳRℛeℯgℊoℴ" },
  fraktur: { capital: 0x1d504, small: 0x1d51e, elsewhere: "CℭHℌIℑRℜZℨ" },
  sans: { capital: 0x1d5a0, small: 0x1d5ba, digit: 0x1d7e2 },
  mono: { capital: 0x1d670, small: 0x1d68a, digit: 0x1d7f6 },
};
const GREEK_BOLD = { capital: 0x1d6a8, small: 0x1d6c2 };

/** Commands that set letters in another alphabet. */
export const STYLES = new Map<string, string>([
  ["mathbf", "bold"],
  ["boldsymbol", "boldItalic"],
  ["bm", "boldItalic"],
  ["mathbb", "double"],
  ["Bbb", "double"],
  ["mathcal", "script"],
  ["mathscr", "script"],
  ["mathfrak", "fraktur"],
  ["mathsf", "sans"],
  ["mathtt", "mono"],
  ["mathrm", "upright"],
  ["mathit", "italic"],
]);

/** A letter or digit in the alphabet of a style; itself where that has none. */
export function styled(char: string, style: string): string {
  const alphabet = Object.hasOwn(ALPHABETS, style) ? ALPHABETS[style] : undefined;
  if (alphabet === undefined) return char;
  const elsewhere = alphabet.elsewhere?.indexOf(char) ?? -1;
  if (elsewhere >= 0 && elsewhere % 2 === 0) return alphabet.elsewhere![elsewhere + 1]!;
  const code = char.codePointAt(0)!;
  if (/^[A-Z]$/.test(char)) return String.fromCodePoint(alphabet.capital + code - 65);
  if (/^[a-z]$/.test(char)) return String.fromCodePoint(alphabet.small + code - 97);
  if (/^\d$/.test(char) && alphabet.digit !== undefined) return String.fromCodePoint(alphabet.digit + code - 48);
  if (style.startsWith("bold") && /^[Α-Ω]$/.test(char)) return String.fromCodePoint(GREEK_BOLD.capital + code - 0x391);
  if (style.startsWith("bold") && /^[α-ω]$/.test(char)) return String.fromCodePoint(GREEK_BOLD.small + code - 0x3b1);
  return char;
}
