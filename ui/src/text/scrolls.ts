// What is wider than its place scrolls, and then the keyboard must be able to scroll it, too.

/** An attachment: the element can have the focus while it has something to scroll. */
export function scrolls(element: HTMLElement): () => void {
  const observer = new ResizeObserver(() => {
    if (element.scrollWidth > element.clientWidth) element.tabIndex = 0;
    else element.removeAttribute("tabindex");
  });
  observer.observe(element);
  if (element.firstElementChild !== null) observer.observe(element.firstElementChild);
  return () => observer.disconnect();
}
