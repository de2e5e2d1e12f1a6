// Text to the clipboard.

/** Copies `text`. Raises if the browser does not let us. */
export async function copyText(text: string): Promise<void> {
  if (window.isSecureContext) return navigator.clipboard.writeText(text);
  // A page by plain HTTP from another machine has no clipboard, but may copy what is selected.
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "hidden-text";
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  if (!copied) throw new Error("The browser does not let this page copy. Select the text and copy it.");
}
