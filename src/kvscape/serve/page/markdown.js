// Markdown as models write it, as elements. Text becomes text nodes and nothing else: no model can add an element.

const FENCE = /^ {0,3}(`{3,}|~{3,})/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const HEADING = /^(#{1,6})\s+(.*?)\s*#*$/;
const ROW = /^\s*\|.*\|\s*$/;
const RULER = /^\s*\|[\s:|-]+\|\s*$/;
const INLINE = /(`+)(.+?)\1(?!`)|\*\*(?=\S)(.+?)\*\*|\*(?=\S)([^*]+?)\*|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)/;

// Shows a text that grows: blocks that did not change keep their elements.
export function show(target, text) {
  const sources = blocks(text);
  const known = target.sources ?? [];
  let same = 0;
  while (same < sources.length && sources[same] === known[same]) same += 1;
  while (target.childNodes.length > same) target.lastChild.remove();
  for (const source of sources.slice(same)) target.append(block(source));
  target.sources = sources;
}

// The source of each block: a fence with all within it, or lines up to an empty one.
function blocks(text) {
  const found = [];
  let lines = [], fence = null;
  const end = () => { if (lines.length) found.push(lines.join("\n")); lines = []; };
  for (const line of text.split("\n")) {
    const mark = FENCE.exec(line)?.[1];
    if (fence) {
      lines.push(line);
      if (mark?.startsWith(fence) && !line.trim().slice(mark.length)) { fence = null; end(); }
    } else if (mark) {
      end();
      fence = mark;
      lines.push(line);
    } else if (!line.trim()) {
      end();
    } else {
      if (HEADING.test(line) || (lines.length && parts(lines, line))) end();
      lines.push(line);
    }
  }
  end();
  return found;
}

// Whether a line begins a block although no empty line is before it.
function parts(lines, line) {
  const before = lines.at(-1);
  return HEADING.test(before) || ROW.test(line) !== ROW.test(before) || (ITEM.test(line) && !ITEM.test(lines[0]));
}

function block(source) {
  const lines = source.split("\n"), heading = HEADING.exec(lines[0]);
  if (FENCE.test(lines[0])) return code(lines);
  if (heading) return inline(element("h" + Math.min(5, heading[1].length + 2)), heading[2]);
  if (lines.length > 1 && ROW.test(lines[0]) && RULER.test(lines[1])) return table(lines);
  if (lines.every((line) => line.startsWith(">"))) {
    const quote = element("blockquote");
    show(quote, lines.map((line) => line.replace(/^> ?/, "")).join("\n"));
    return quote;
  }
  return ITEM.test(lines[0]) ? list(lines) : inline(element("p"), source);
}

function code(lines) {
  const mark = FENCE.exec(lines[0])[1], last = lines.length > 1 && lines.at(-1).trim().startsWith(mark);
  const pre = element("pre");
  pre.tabIndex = 0; // so that keys can scroll it
  pre.append(element("code", lines.slice(1, last ? -1 : undefined).join("\n")));
  return pre;
}

function list(lines) {
  const open = []; // the lists that the line may belong to, with their indents
  let root = null, item = null;
  for (const line of lines) {
    const found = ITEM.exec(line);
    if (!found) {
      item.append(element("br"));
      inline(item, line.trim());
      continue;
    }
    const indent = found[1].length;
    while (open.length > 1 && indent < open.at(-1).indent) open.pop();
    if (!open.length || indent > open.at(-1).indent) {
      const made = element(/\d/.test(found[2]) ? "ol" : "ul");
      if (made.tagName === "OL") made.start = Number.parseInt(found[2], 10);
      (item ?? { append: (first) => { root = first; } }).append(made);
      open.push({ indent, list: made });
    }
    item = inline(element("li"), found[3]);
    open.at(-1).list.append(item);
  }
  return root;
}

function table(lines) {
  const rows = [lines[0], ...lines.slice(2)].map((line) => line.trim().slice(1, -1).split("|"));
  const shown = element("table");
  rows.forEach((cells, number) => {
    const row = shown.insertRow();
    for (const cell of cells) row.append(inline(element(number ? "td" : "th"), cell.trim()));
  });
  const frame = element("div");
  frame.className = "table";
  frame.append(shown);
  return frame;
}

function inline(target, text) {
  let rest = text;
  for (let found = INLINE.exec(rest); found; found = INLINE.exec(rest)) {
    plain(target, rest.slice(0, found.index));
    const [all, , written, bold, slanted, name, address] = found;
    if (written) target.append(element("code", written));
    else if (bold) target.append(inline(element("strong"), bold));
    else if (slanted) target.append(inline(element("em"), slanted));
    else target.append(link(name, address));
    rest = rest.slice(found.index + all.length);
  }
  plain(target, rest);
  return target;
}

function plain(target, text) {
  text.split("\n").forEach((line, number) => {
    if (number) target.append(element("br"));
    if (line) target.append(line);
  });
}

function link(name, address) {
  const shown = element("a", name);
  shown.href = address;
  shown.title = address;
  shown.target = "_blank";
  shown.rel = "noopener noreferrer nofollow";
  return shown;
}

export function element(name, text = "") {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}
