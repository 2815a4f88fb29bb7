// Text that is cut off is told whole to who points at it.

const ours = new WeakSet(); // elements whose title is from here

export function bindCutText() {
  document.addEventListener("pointerover", (event) => {
    const target = event.target.localName === "bdi" ? event.target.parentElement : event.target;
    const cut = target.scrollWidth > target.clientWidth && getComputedStyle(target).textOverflow === "ellipsis";
    if (cut && (ours.has(target) || !target.title)) {
      ours.add(target);
      target.title = target.textContent;
    } else if (!cut && ours.delete(target)) {
      target.removeAttribute("title");
    }
  });
}
