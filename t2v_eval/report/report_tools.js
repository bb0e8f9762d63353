"use strict";
// Tables as Markdown, LaTeX or CSV on the clipboard, and charts as SVG or PNG files.

const PNG_SCALE = 4; // pixels of a saved chart for each of its own

async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea"); // a browser that allows no clipboard to files
    area.value = text;
    (button.closest("dialog") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "copied";
  setTimeout(() => { button.textContent = before; }, 1200);
}

// A cell as one line: its value, and its interval in brackets.
function cellText(cell) {
  const parts = [], notes = [];
  for (const node of cell.childNodes) {
    if (node.nodeType === Node.ELEMENT_NODE && node.getAttribute("aria-hidden") === "true") continue;
    const text = node.textContent.trim().replace(/\s+/g, " ");
    if (!text) continue;
    const limits = node.nodeName === "SMALL" ? text.match(/^(\S+) to (\S+)$/) : null;
    if (limits) parts.push(`[${limits[1]}, ${limits[2]}]`);
    else (node.nodeName === "SMALL" ? notes : parts).push(text);
  }
  return [...parts, ...notes.map((note) => `(${note})`)].join(" ").replaceAll("−", "-");
}

const rowsOf = (table) => [...table.rows].map((row) => [...row.cells].map(cellText));

const LATEX = { "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "$": "\\$", "&": "\\&", "#": "\\#", "%": "\\%", "_": "\\_", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}" };

const formats = {
  Markdown(rows) {
    const line = (cells) => `| ${cells.map((text) => text.replace(/[\\`*_{}\[\]<>#|~&]/g, "\\$&")).join(" | ")} |`;
    return [line(rows[0]), `|${" --- |".repeat(rows[0].length)}`, ...rows.slice(1).map(line)].join("\n") + "\n";
  },
  LaTeX(rows) {
    const line = (cells) => `${cells.map((text) => text.replace(/[\\{}$&#%_~^<>]/g, (sign) => LATEX[sign])).join(" & ")} \\\\`;
    return [`\\begin{tabular}{l${"r".repeat(rows[0].length - 1)}}`, "\\hline", line(rows[0]), "\\hline", ...rows.slice(1).map(line), "\\hline", "\\end{tabular}"].join("\n") + "\n";
  },
  CSV(rows) {
    const field = (text) => /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    return rows.map((cells) => cells.map(field).join(",")).join("\r\n") + "\r\n";
  },
};

// A chart with the colours and fonts of the page written into it, as no style sheet goes with it.
function standalone(chart) {
  const clone = chart.cloneNode(true), style = getComputedStyle(document.body);
  const variables = getComputedStyle(document.documentElement);
  const [, , width, height] = chart.getAttribute("viewBox").split(" ").map(Number);
  clone.removeAttribute("style");
  clone.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  clone.setAttribute("width", width);
  clone.setAttribute("height", height);
  const resolve = (text) => text.replace(/var\((--\w+)\)/g, (_, name) => variables.getPropertyValue(name).trim()).replaceAll("currentColor", style.color);
  for (const node of [clone, ...clone.querySelectorAll("*")]) {
    for (const { name, value } of [...node.attributes]) {
      if (value.includes("var(") || value.includes("currentColor")) node.setAttribute(name, resolve(value));
    }
    if (node.nodeName === "text") node.style.fontFamily = "sans-serif";
  }
  clone.querySelectorAll("style").forEach((node) => { node.textContent = resolve(node.textContent); });
  const back = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ width: "100%", height: "100%", fill: style.backgroundColor })) back.setAttribute(name, value);
  clone.prepend(back);
  return { text: new XMLSerializer().serializeToString(clone), width, height };
}

function save(url, name) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
}

function saveChart(chart, kind, name) {
  const { text, width, height } = standalone(chart);
  const url = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  if (kind === "SVG") return save(url, `${name}.svg`);
  const image = new Image();
  image.addEventListener("load", () => {
    const canvas = document.createElement("canvas");
    canvas.width = width * PNG_SCALE;
    canvas.height = height * PNG_SCALE;
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    save(canvas.toDataURL("image/png"), `${name}.png`);
  });
  image.src = url;
}

function toolbar(label, kinds, act) {
  const bar = document.createElement("div");
  bar.className = "tools";
  bar.append(label);
  for (const kind of kinds) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = kind;
    button.addEventListener("click", () => act(kind, button));
    bar.append(button);
  }
  return bar;
}

function offerTools() {
  document.querySelectorAll("table.figures").forEach((table) => {
    const act = (kind, button) => copy(formats[kind](rowsOf(table)), button);
    table.closest(".scroll").after(toolbar("copy as ", Object.keys(formats), act));
  });
  document.querySelectorAll("svg.chart").forEach((chart, number) => {
    const act = (kind) => saveChart(chart, kind, `chart-${number + 1}`);
    chart.closest(".scroll").after(toolbar("save as ", ["SVG", "PNG"], act));
  });
}
