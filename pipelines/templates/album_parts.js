// --- Parts of the page. Names, paths and details come from outside: they become text and attributes, never markup ---

const SVG = "http://www.w3.org/2000/svg";

function make(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function draws(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function picture(name, alt, size) {
  if (name) {
    const src = `img/${name.slice(0, 2)}/${name}.jpg`;
    return make("img", { src, alt, width: size, height: size, loading: "lazy", decoding: "async" });
  }
  const told = alt ? { role: "img", "aria-label": `${alt} (no picture)` } : { "aria-hidden": "true" };
  return make("span", { class: "blank", ...told },
    draws("svg", { viewBox: "0 0 24 24" },
      draws("circle", { cx: 12, cy: 9, r: 4.5 }), draws("path", { d: "M3 23a9 8 0 0 1 18 0z" })));
}

function percent(tenths) {
  return `${Math.floor(tenths / 10)} %`; // rounded down: nothing is quite sure
}

function distanceText(millionths) {
  return (millionths / 1e6).toFixed(2);
}

function counted(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

function verdictMark(verdict) {
  return make("span", { class: `verdict ${VERDICTS[verdict]}` }, VERDICT_NAMES[verdict]);
}

// A place on the web is a link, any other only text.
function placeOf(text) {
  if (!/^https?:\/\//.test(text)) return make("span", {}, text);
  return make("a", { href: text, rel: "noreferrer noopener", target: "_blank" }, text);
}

function pair(seen, attributes) {
  const [nearest] = seen.ranks;
  const name = people.names[nearest.person];
  return make("span", { class: "pair", ...attributes },
    picture(seen.crop, `Face ${seen.number} of ${paths[seen.photo]}`, 160),
    picture(nearest.picture, name, 160),
    make("span", { class: "alike" }, percent(nearest.similarity)));
}

function card(seen) {
  const [nearest, ...others] = seen.ranks;
  const name = people.names[nearest.person];
  return make("li", { class: "card", "data-face": seen.face },
    make("article", {},
      make("a", { class: "open", href: faceAddress(seen.face), "aria-haspopup": "dialog" }, pair(seen, {})),
      make("h3", {}, make("a", { href: personAddress(nearest.person) }, name)),
      make("p", { class: "facts" }, verdictMark(nearest.verdict), " ",
        make("span", { class: "number" }, `D ${distanceText(nearest.distance)}`)),
      others.length ? make("ol", { class: "others", "aria-label": "The next nearest people" },
        ...others.slice(0, 4).map((other) => make("li", { title: people.names[other.person] },
          picture(other.picture, "", 48),
          make("span", { class: "name" }, people.names[other.person]),
          make("span", { class: "number" }, percent(other.similarity))))) : null,
      make("p", { class: "path", title: paths[seen.photo] }, paths[seen.photo], seen.of > 1 ? ` · face ${seen.number} of ${seen.of}` : "")));
}

function personCard(person) {
  return make("li", {}, make("a", { href: personAddress(person) },
    picture(people.pictures[person], "", 96),
    make("span", { class: "name" }, people.names[person]),
    make("span", { class: "number" }, counted(people.faces[person], "face"))));
}

function personHead(person) {
  return [
    picture(people.pictures[person], people.names[person], 112),
    make("p", {}, `${counted(people.faces[person], "face")} of the album ${people.faces[person] === 1 ? "has" : "have"} ` +
      `${people.names[person]} as the nearest person. `, make("a", { href: address({ ...DEFAULTS }) }, "Show everybody")),
  ];
}

function pager(nav, page, pages) {
  nav.hidden = pages < 2;
  const step = (to, text, rel) => make("a",
    to >= 1 && to <= pages ? { href: address({ ...CLOSED, page: to }), rel } : { "aria-disabled": "true", role: "link" },
    text);
  nav.replaceChildren(
    step(page > 1 ? 1 : 0, "First"), step(page - 1, "Previous", "prev"),
    make("span", {}, `Page ${page.toLocaleString("en")} of ${pages.toLocaleString("en")}`),
    step(page + 1, "Next", "next"), step(page < pages ? pages : 0, "Last"));
}
