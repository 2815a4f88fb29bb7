// What is wrong with all that is to be seen: text of too little contrast (below 4.5:1), controls without a name, on a small screen targets
// below 40 px, and anything that makes the page wider than the screen. Each complaint once, in words.
() => {
  const visible = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && element.getClientRects().length > 0;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const colours = new Map();
  const colour = (words) => {
    if (!colours.has(words)) {
      pen.clearRect(0, 0, 1, 1);
      pen.fillStyle = words;
      pen.fillRect(0, 0, 1, 1);
      colours.set(words, [...pen.getImageData(0, 0, 1, 1).data]);
    }
    return colours.get(words);
  };
  const over = (top, below) => below.map((value, at) => (at === 3 ? 255 : (top[at] * top[3] + value * (255 - top[3])) / 255));
  const light = (value) => (value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([red, green, blue]) => 0.2126 * light(red) + 0.7152 * light(green) + 0.0722 * light(blue);
  const ground = (element) => {
    const above = [];
    for (let each = element; each; each = each.parentElement ?? each.getRootNode().host) above.push(colour(getComputedStyle(each).backgroundColor));
    return above.reverse().reduce((below, top) => over(top, below), colour(getComputedStyle(document.documentElement).backgroundColor));
  };
  const small = innerWidth < 720;
  const complaints = new Set();

  function read(root) {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      const words = walker.currentNode.data.trim().slice(0, 30);
      if (!words || !element || !visible(element) || element.closest("option, style, script, [disabled], .row.cut")) continue;
      const below = ground(element);
      const [a, b] = [luminance(over(colour(getComputedStyle(element).color), below)), luminance(below)];
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (contrast < 4.5) complaints.add(`contrast ${contrast.toFixed(2)} of ${words}`);
    }
  }

  read(document.body);
  for (const { shadowRoot } of document.querySelectorAll(".editor, .merge")) if (shadowRoot) read(shadowRoot);
  for (const element of document.querySelectorAll("button, a[href], input, select, [tabindex='0']")) {
    if (!visible(element)) continue;
    const label = [...(element.labels ?? [])].map((each) => each.textContent).join(" ");
    const name = (element.getAttribute("aria-label") || label || element.title || element.textContent).trim();
    if (!name) complaints.add(`no name: ${element.outerHTML.slice(0, 80)}`);
    const { width, height } = element.getBoundingClientRect();
    const target = element.matches("button, select, input:not([type=checkbox], .naming)");
    if (small && target && (width < 39.5 || height < 39.5)) complaints.add(`${Math.round(width)} × ${Math.round(height)} px for ${name.slice(0, 30)}`);
  }
  if (document.documentElement.scrollWidth > innerWidth) complaints.add(`the page is ${document.documentElement.scrollWidth} px wide`);
  return [...complaints];
};
