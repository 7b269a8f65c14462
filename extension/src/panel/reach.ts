// What scrolls can be scrolled by keyboard too.

/**
 * Make a part a stop of the Tab key while it holds more than it shows, and nothing where the key stops by itself.
 *
 * Whoever is in it already is not thrown out.
 */
export function reach(node: HTMLElement, label: string): void {
  const more = node.scrollHeight > node.clientHeight && !node.querySelector('a[href], button, [tabindex]');
  if (more) {
    node.tabIndex = 0;
    node.setAttribute('aria-label', label);
    if (!node.hasAttribute('role')) {
      node.setAttribute('role', 'region');
    }
  } else if (node !== document.activeElement) {
    node.removeAttribute('tabindex');
    node.removeAttribute('aria-label');
    if (node.getAttribute('role') === 'region') {
      node.removeAttribute('role');
    }
  }
}
