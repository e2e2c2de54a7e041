// The dashboard: asks the bridge every few seconds and writes down what it says. All words go in as text, never as HTML.
"use strict";

const EVERY = 5000;
const KEPT = "bridgekit-token";
const LABELS = {
  clear: "in clear",
  transport: "servers can read",
  bridge: "encrypted to the bridge",
  end_to_end: "end-to-end encrypted",
};
const READERS = {
  present: "those present",
  joined: "members, from when they joined",
  invited: "members, from when they were invited",
  shared: "members, also what was before them",
  world_readable: "everybody in the world",
  unknown: "unknown: counts as secret",
};
const names = new Map(); // of the networks, as people call them
const $ = (id) => document.getElementById(id);

// The token comes behind the #, which no server is told, and stays in this tab.
if (location.hash.length > 1) {
  sessionStorage.setItem(KEPT, location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
}

function made(tag, cls, ...children) {
  const element = document.createElement(tag);
  if (cls) element.className = cls;
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

function table(id, heads, rows, none) {
  const head = made("thead", "", made("tr", "", ...heads.map((name) => made("th", "", name))));
  const lines = rows.map((cells) =>
    made("tr", "", ...cells.map((cell) => made("td", typeof cell === "number" ? "number" : "", typeof cell === "number" ? cell.toLocaleString() : cell))),
  );
  $(id).replaceChildren(...(rows.length ? [head, made("tbody", "", ...lines)] : [made("caption", "soft", none)]));
}

function called(network) {
  return names.get(network) || network;
}

function state(word, reason, trouble) {
  const cls = trouble || { ready: "good", open: "good", connecting: "warn", waiting: "warn", paused: "warn" }[word] || "bad";
  return made("span", "", made("span", `state ${cls}`, word), reason ? made("span", "soft", ` ${reason}`) : "");
}

function since(at) {
  return at ? new Date(at).toLocaleString() : "";
}

function link(one) {
  const where = made("p", "", made("strong", "", one.name), ` on ${called(one.network)} `, state(one.state, one.reason || one.obstacle, one.obstacle && "warn"));
  const readers = `${one.modes ? `modes ${one.modes}, ` : ""}its readers: ${READERS[one.exposure]}`;
  const facts = [
    ...(one.account ? [`a conversation of ${one.account}`] : [`linked by ${one.creator}`, readers]),
    ...one.consents.map((c) => `${c.name}${c.account ? ` (${c.account})` : ""} agreed to ${c.scopes.join(", ")} on ${since(c.at)}`),
  ];
  const lines = [where, made("p", "soft", facts.join(" · "))];
  if (one.agreed === false) lines.push(made("p", "warn", "Nobody of the room has agreed that its words leave it in clear: nothing crosses."));
  if (one.held) lines.push(made("p", "warn", `${one.held.toLocaleString()} waiting, since ${since(one.held_since)}`));
  return made("li", "", ...lines);
}

const title = (room) => room.links.map((l) => l.name).join(" + ");
const waits = (room) => room.links.some((l) => l.state !== "open" || l.held > 0);

function troubled(a, b) {
  return waits(b) - waits(a) || title(a).localeCompare(title(b));
}

function room(one) {
  const head = made("header", "", made("h3", "", title(one)), made("span", "id soft", one.room), made("span", `label ${one.protection}`, LABELS[one.protection]));
  const words = made("p", "", one.words, " ", made("span", "soft", `Read by ${READERS[one.history]}.`));
  return made("article", "", head, words, made("ul", "", ...one.links.map(link)));
}

function fates(counts) {
  const each = ["delivered", "failed", "uncertain"].map((fate) => made("span", "fate", `${(counts[fate] || 0).toLocaleString()} ${fate}`));
  return made("span", "", ...each.flatMap((one, place) => (place ? [", ", one] : [one])));
}

async function ask(path) {
  const headers = path.startsWith("api/") ? { Authorization: `Bearer ${sessionStorage.getItem(KEPT) || ""}` } : {};
  const answer = await fetch(path, { headers, cache: "no-store" });
  if (answer.status === 401) throw new DOMException("token", "NotAllowedError");
  return answer.json();
}

async function look() {
  const [health, networks, rooms, accounts, devices, reports] = await Promise.all(
    ["health/ready", "api/v1/networks", "api/v1/rooms", "api/v1/accounts", "api/v1/devices", "api/v1/reports"].map(ask),
  );
  networks.networks.forEach((n) => names.set(n.network, n.name));
  const parts = Object.entries(health.parts);
  $("health").replaceChildren(
    ...parts.map(([name, part]) => made("li", part.ok ? "good" : part.needed === false ? "warn" : "bad", name, part.detail ? made("span", "soft", ` ${part.detail}`) : "")),
  );
  table(
    "networks",
    ["network", "connection", "links", "accounts", "waiting", "turned away", "to Matrix", "to the network"],
    networks.networks.map((n) => [
      made("span", "", n.name, " ", made("span", "soft", [...new Set([n.network, n.connector])].join(", "))),
      state(n.state, n.reason),
      n.links,
      n.accounts,
      n.held,
      n.turned_away,
      fates(n.fates.to_matrix),
      fates(n.fates.to_network),
    ]),
    "No networks are configured.",
  );
  $("rooms").replaceChildren(
    ...(rooms.rooms.length ? rooms.rooms.sort(troubled).map(room) : [made("p", "soft", "No room is linked: invite the bot to one and say !bridge link.")]),
  );
  $("reported").hidden = !reports.reports.length;
  table(
    "reports",
    ["number", "since", "network", "who", "whom", "where", "proven", "in their words"],
    reports.reports.map((r) => [
      r.number,
      since(r.at),
      called(r.network),
      made("span", "id", r.reporter || "not said"),
      made("span", "id", r.accused),
      made("span", "id", r.room || r.chat),
      `${r.proven} of ${r.messages}`,
      r.note,
    ]),
    "None.",
  );
  table("accounts", ["user", "network", "connection"], accounts.accounts.map((a) => [made("span", "id", a.user), called(a.network), state(a.state, a.reason)]), "None.");
  table("devices", ["user", "device"], devices.devices.map((d) => [made("span", "id", d.user), made("span", "id", d.device)]), "None: no encrypted room has needed one.");
  const well = health.ready ? "well" : "not ready";
  $("state").replaceChildren(made("span", `state ${health.ready ? "good" : "bad"}`, well), made("span", "soft", ` version ${health.version}, seen ${new Date().toLocaleTimeString()}`));
}

async function watch() {
  try {
    await look();
    $("door").hidden = true;
    document.querySelector("main").hidden = false;
  } catch (error) {
    const token = error.name === "NotAllowedError";
    $("door").hidden = !token;
    if (token) document.querySelector("main").hidden = true;
    $("state").replaceChildren(made("span", "state bad", token ? "locked" : "the bridge does not answer"));
    if (token) return;
  }
  setTimeout(watch, EVERY);
}

$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEPT, $("token").value.trim().replace(/^.*#/, ""));
  watch();
});
watch();
