// Which addresses a link may lead to.

const SCHEMES = new Set(["http:", "https:", "mailto:"]);

/** The address in full; null if it is none that may be followed (javascript:, data:, a path of this page, ...). */
export function safeHref(address: string): string | null {
  try {
    const url = new URL(address.startsWith("www.") ? `https://${address}` : address);
    return SCHEMES.has(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
