// What a reader could not read: text that is cut off, that covers other text, that is faint or tiny. One object of lists of words.
() => {
  const luminance = (colour) =>
    colour.slice(0, 3).map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
      .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const contrast = (first, second) => {
    const [low, high] = [luminance(first), luminance(second)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  // red, green, blue of 0 to 255, and opacity of 0 to 1
  const parsed = (text) => {
    const numbers = (text.match(/[\d.]+/g) ?? ["0", "0", "0", "0"]).map(Number);
    return text.startsWith("rgb") ? [...numbers.slice(0, 3), numbers[3] ?? 1] : [0, 0, 0, 0];
  };
  const over = (front, back, opacity = 1) => {
    const share = front[3] * opacity;
    return [...[0, 1, 2].map((part) => front[part] * share + back[part] * (1 - share)), 1];
  };

  const pageColour = parsed(getComputedStyle(document.body).backgroundColor);
  const behind = (element) => {
    const colours = [];
    for (let each = element; each; each = each.parentElement) {
      const colour = parsed(getComputedStyle(each).backgroundColor);
      colours.push(colour);
      if (colour[3] === 1) break;
    }
    return colours.reduceRight((back, front) => over(front, back), pageColour);
  };
  const opacityOf = (element) => {
    let opacity = 1;
    for (let each = element; each; each = each.parentElement) opacity *= Number(getComputedStyle(each).opacity);
    return opacity;
  };
  // the last shape of a picture that is drawn before a text and lies under its middle
  const shapeUnder = (svg, element, box) => {
    let colour = null;
    for (const shape of svg.querySelectorAll("path, use, rect")) {
      if (shape.closest("defs, clipPath") || !(shape.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING)) continue;
      const style = getComputedStyle(shape);
      const edges = shape.getBoundingClientRect();
      const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
      if (style.fill === "none" || x < edges.left || x > edges.right || y < edges.top || y > edges.bottom) continue;
      const fill = parsed(style.fill);
      colour = over([...fill.slice(0, 3), fill[3] * Number(style.fillOpacity) * opacityOf(shape)], colour ?? behind(svg));
    }
    return colour;
  };

  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const element = node.parentElement;
    if (!node.data.trim() || element.closest("script, style, title") || !element.checkVisibility({ visibilityProperty: true })) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) if (box.width > 0) texts.push({ node, element, box, words: node.data.trim().slice(0, 60) });
  }

  const clipped = [];
  const faint = [];
  const small = [];
  const shown = [];
  for (const text of texts) {
    const { element, box, words } = text;
    const svg = element.closest("svg");
    let visible = { left: box.left, right: box.right, top: box.top, bottom: box.bottom };
    if (svg) {
      const frame = svg.getBoundingClientRect();
      const out = Math.max(frame.left - box.left, box.right - frame.right, frame.top - box.top, box.bottom - frame.bottom);
      if (out > 1) clipped.push(`${words} (${Math.round(out)} px out of its picture, ${svg.getAttribute("aria-label")})`);
    }
    for (let each = svg ?? element; each && each !== document.body; each = each.parentElement) {
      const style = getComputedStyle(each);
      if (style.overflowX === "visible" || each.tagName === "svg") continue;
      const frame = each.getBoundingClientRect();
      const scrolls = ["auto", "scroll"].includes(style.overflowX);
      if (!scrolls && (box.left < frame.left - 1 || box.right > frame.right + 1)) clipped.push(`${words} (out of its box)`);
      visible.left = Math.max(visible.left, frame.left);
      visible.right = Math.min(visible.right, frame.right);
    }
    // what is out of a box that scrolls can be scrolled to; what is out of the page cannot
    if (visible.right > document.documentElement.clientWidth + 1 || visible.left < -1) {
      if (!element.closest(".skip")) clipped.push(`${words} (out of the page)`);
    }
    if (visible.right > visible.left) shown.push({ ...text, ...visible });

    const style = getComputedStyle(element);
    const back = (svg && shapeUnder(svg, element, box)) ?? behind(svg ?? element);
    const ink = over(parsed(svg ? style.fill : style.color), back, opacityOf(element));
    // a picture's text shrinks with it
    const zoom = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
    const size = parseFloat(style.fontSize) * zoom;
    if (size < 6.5) small.push(`${words} (${size.toFixed(1)} px)`);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = contrast(ink, back);
    if (ratio < (large ? 3 : 4.5)) faint.push(`${words} (${ratio.toFixed(2)} : 1)`);
  }

  // Boxes of text have room above and below the letters, so a quarter of their height may touch.
  const overlapping = [];
  shown.sort((a, b) => a.top - b.top);
  for (let first = 0; first < shown.length; first++) {
    const a = shown[first];
    for (let second = first + 1; second < shown.length && shown[second].top < a.bottom; second++) {
      const b = shown[second];
      const low = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const least = Math.min(a.bottom - a.top, b.bottom - b.top);
      if (a.node !== b.node && low > 0.25 * least && wide > 1.5) overlapping.push(`${a.words} | ${b.words}`);
    }
  }
  const wider = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  return { clipped, overlapping, faint, small, sideways: wider > 0 ? [`the page is ${wider} px wider than its window`] : [], texts: texts.length };
}
