// --- One face: the whole photo with its boxes, and the people it looks like ---

const detail = document.getElementById("detail");

async function showDetail(face) {
  if (face < 0) {
    if (detail.open) detail.close();
    return;
  }
  const photo = faces.photo[face];
  const all = [];
  for (let other = firstFace[photo]; other < firstFace[photo + 1]; other++) all.push(await faceOf(other));
  if (openFace() !== face) return; // another one was opened in the meantime
  detail.replaceChildren(...detailParts(all[face - firstFace[photo]], all));
  if (!detail.open) detail.showModal();
  detail.scrollTop = 0;
}

function detailParts(seen, all) {
  const [nearest] = seen.ranks;
  const name = people.names[nearest.person];
  const where = shownFaces.indexOf(seen.face);
  const step = (by, text) => {
    const to = where < 0 ? undefined : shownFaces[where + by];
    const button = make("button", { type: "button", class: "quiet-button", disabled: to === undefined }, text);
    button.addEventListener("click", () => stepDetail(by));
    return button;
  };
  const close = make("button", { type: "button", class: "quiet-button", autofocus: true }, "Close");
  close.addEventListener("click", () => detail.close());
  return [
    make("div", { class: "bar" },
      make("h2", { id: "detail-title" }, seen.of > 1 ? `Face ${seen.number} of ${seen.of}` : "Face", " ",
        make("span", { class: "path" }, paths[seen.photo])),
      step(-1, "← Previous"), step(1, "Next →"), close),
    make("div", { class: "detail" },
      make("figure", {}, boxedPhoto(seen, all), make("figcaption", {}, placeOf(album.folder + paths[seen.photo]))),
      make("div", { class: "hero" },
        pair(seen, {}),
        make("p", { class: "person-name" }, make("a", { href: personAddress(nearest.person) }, name)),
        make("p", {}, verdictMark(nearest.verdict), " ", explained(nearest))),
      make("div", {},
        make("h3", {}, "The nearest people"),
        make("ol", { class: "ranks" }, ...seen.ranks.map(rankRow)))),
  ];
}

function explained(nearest) {
  const distance = `D ${distanceText(nearest.distance)}`;
  return [
    `${distance} is within tau, ${album.tau}, and nobody else is nearly as near.`,
    `${distance} is within tau, ${album.tau}, but somebody else is hardly farther.`,
    `${distance} is beyond tau, ${album.tau}: alike, and no more.`,
  ][nearest.verdict];
}

function rankRow(rank) {
  const name = people.names[rank.person];
  const known = people.faces[rank.person] > 0;
  return make("li", {},
    picture(rank.picture, "", 64),
    make("span", { class: "who" },
      known ? make("a", { class: "name", href: personAddress(rank.person) }, name) : make("span", { class: "name" }, name),
      make("span", { class: "place" }, placeOf(rank.place))),
    make("span", { class: "number" }, `${percent(rank.similarity)}, D ${distanceText(rank.distance)}`),
    verdictMark(rank.verdict));
}

// The thumbnail under boxes in the photo's own pixels; each box leads to its face.
function boxedPhoto(seen, all) {
  const [width, height] = seen.size;
  if (!seen.thumbnail || !width) return make("p", { class: "empty" }, "There is no picture of the whole photo.");
  const src = `img/${seen.thumbnail.slice(0, 2)}/${seen.thumbnail}.jpg`;
  const boxes = all.map((other) => {
    const [x0, y0, x1, y1] = other.box;
    const label = `Face ${other.number}: ${people.names[other.ranks[0].person]}`;
    return draws("a", { href: faceAddress(other.face), "aria-label": label,
      ...(other.face === seen.face ? { "aria-current": "true" } : {}) },
      draws("title", {}, label),
      draws("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, rx: Math.max(width, height) / 80 }));
  });
  return make("div", { class: "photo" },
    make("img", { src, alt: `The whole photo, ${paths[seen.photo]}`, width, height }),
    draws("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Faces on the photo" }, ...boxes));
}

// To the next of the faces that are listed; their page follows when the dialog is closed.
function stepDetail(by) {
  const where = shownFaces.indexOf(openFace());
  const to = where < 0 ? undefined : shownFaces[where + by];
  if (to === undefined) return;
  const page = Math.floor(shownFaces.indexOf(to) / PER_PAGE.faces) + 1;
  const photo = faces.photo[to];
  go({ page, photo: paths[photo], face: to - firstFace[photo] + 1 }, true);
}

detail.addEventListener("close", () => {
  const face = openFace();
  if (face < 0) return;
  go(CLOSED, true); // else going back would open it again
  focusCard(face);
});
detail.addEventListener("click", (event) => { if (event.target === detail) detail.close(); });
