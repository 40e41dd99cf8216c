// --- The album as a whole ---

function summaryParts() {
  const [matches, ambiguous, lookalikes] = album.verdicts;
  return [
    make("ul", { class: "tiles" },
      ...[
        [album.photos, "photos"], [album.photosDone, "with faces"], [album.faces, "faces"],
        [album.lookedLike, "people looked like"], [matches, "match"], [ambiguous, "ambiguous"],
        [lookalikes, "look-alike"],
      ].map(([number, what]) => make("li", {}, make("strong", {}, number.toLocaleString("en")), ` ${what}`))),
    make("h3", {}, "Most frequent look-alikes"),
    frequentPeople(),
    make("h3", {}, "How near they come"),
    distanceChart(),
    make("p", {}, `At tau ${album.tau}. ${album.rate}`),
    make("p", {}, "A look-alike is not an identification. Even a match is only a resemblance that strangers have now " +
      "and then: take nobody for somebody else by this page alone."),
    make("h3", {}, "What was left out"),
    ...leftOut(),
    make("h3", {}, "Where it comes from"),
    make("dl", { class: "origin" },
      ...[["Photos", album.folder], ["Gallery", album.gallery], ["Matched", album.finished]].flatMap(
        ([what, text]) => [make("dt", {}, what), make("dd", {}, text || "–")])),
  ];
}

function frequentPeople() {
  if (!album.lookedLike) return make("p", { class: "empty" }, "Nobody: there are no faces.");
  const most = people.faces[0];
  return make("ol", { class: "bars" }, ...people.names.slice(0, Math.min(12, album.lookedLike)).map((name, person) =>
    make("li", {}, make("a", { href: personAddress(person) },
      picture(people.pictures[person], "", 40),
      make("span", { class: "name" }, name),
      draws("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
        draws("rect", { width: Math.max(1, 100 * people.faces[person] / most), height: 10 })),
      make("span", { class: "number" }, counted(people.faces[person], "face"))))));
}

function distanceChart() {
  const { step, counts } = album.histogram;
  if (!counts.length) return make("p", { class: "empty" }, "There are no distances: there are no faces.");
  const [width, height, bottom] = [640, 236, 204];
  const end = Math.max(counts.length * step, album.tau + step);
  const x = (distance) => 24 + (width - 48) * distance / end;
  const most = Math.max(...counts);
  const bars = counts.map((count, number) => draws("rect", {
    class: (number + 0.5) * step <= album.tau ? "within" : "beyond",
    x: x(number * step) + 0.5, width: Math.max(1, x(step) - x(0) - 1),
    y: bottom - 150 * count / most, height: 150 * count / most,
  }));
  const marks = Array.from({ length: Math.floor(end / 0.2) + 1 }, (_, number) => number / 5).map((distance) =>
    draws("text", { x: x(distance), y: bottom + 24, "text-anchor": "middle" }, distance.toFixed(1)));
  const within = album.verdicts[0] + album.verdicts[1];
  const told = `${within.toLocaleString("en")} of ${counted(album.faces, "face")} are within tau ${album.tau}.`;
  return make("figure", { class: "chart" },
    draws("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": `Histogram of the distance D of each face to the nearest person. ${told}` },
      draws("line", { class: "axis", x1: 24, x2: width - 24, y1: bottom, y2: bottom }),
      ...bars, ...marks,
      draws("line", { class: "tau", x1: x(album.tau), x2: x(album.tau), y1: 26, y2: bottom }),
      draws("text", { class: "tau-text", x: x(album.tau), y: 20,
        "text-anchor": album.tau > end / 2 ? "end" : "start" }, `tau ${album.tau}`)),
    make("figcaption", {}, `D of each face to its nearest person: the smaller, the more alike. ${told}`));
}

function leftOut() {
  if (!album.leftOut.length) return [make("p", {}, "Nothing: every photo gave a face.")];
  return [
    make("p", {}, "All of it, with details, is in the job's ledger."),
    make("ul", { class: "left-out" }, ...album.leftOut.map((kind) => make("li", {},
      make("p", {}, make("strong", {}, counted(kind.count, "item")), ` ${kind.status}: ${kind.words}`),
      make("ul", {}, ...kind.examples.map((example) => make("li", {},
        example.picture ? picture(example.picture, "", 72) : null,
        make("span", { class: "path" }, example.path),
        example.detail ? make("span", { class: "quiet" }, example.detail) : null)))))),
  ];
}
