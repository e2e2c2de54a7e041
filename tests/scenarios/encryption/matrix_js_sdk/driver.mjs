// matrix-js-sdk for a test in another language: one JSON request a line on stdin, one JSON answer a line on stdout.
//
// node driver.mjs FOLDER   (FOLDER: a node_modules with matrix-js-sdk)
//
// A request is {id, do, ...}: its answer {id, result} or {id, error}. Several clients live in one process; `client`
// names the one that is meant.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.argv[2]}/`);
const sdk = await import(pathToFileURL(require.resolve("matrix-js-sdk")));
const cryptoApi = await import(pathToFileURL(require.resolve("matrix-js-sdk/lib/crypto-api")));
const { logger } = await import(pathToFileURL(require.resolve("matrix-js-sdk/lib/logger")));
logger.setLevel?.("warn");
for (const word of ["log", "info", "debug", "trace"]) console[word] = () => {};  // stdout is for answers

const nameOf = (values, value) => Object.keys(values).find((name) => values[name] === value) ?? String(value);
const clients = new Map();

class Client {
  constructor(matrix, door) {
    this.matrix = matrix;
    this.door = door;
    this.timelines = new Map();  // room -> events in the order in which they came
    matrix.on(sdk.RoomEvent.Timeline, (event, room, toStart) => {
      if (toStart || event.status !== null) return;  // history, or our own that is on its way
      if (!this.timelines.has(room.roomId)) this.timelines.set(room.roomId, new Map());
      this.timelines.get(room.roomId).set(event.getId(), event);
    });
    matrix.on(sdk.RoomEvent.LocalEchoUpdated, (event, room) => {
      if (event.status !== null) return;
      if (!this.timelines.has(room.roomId)) this.timelines.set(room.roomId, new Map());
      this.timelines.get(room.roomId).set(event.getId(), event);
    });
  }
}

// Wait until something that the next sync may bring is so.
async function until(holds, what, seconds = 80) {  // less than who waits for the answer
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await holds();
    if (found) return found;
    if (Date.now() > end) throw new Error(`${what} did not come true in ${seconds} s`);
    await new Promise((go) => setTimeout(go, 20));
  }
}

const deeds = {
  // Log in where the token says, with a cross-signed device. `recovery` is what an earlier device of the same person
  // gave out: with it the new one is signed by the same identity (spec, "Secret storage"); without it one is made.
  async start({ client, url, user, device, token, password, strict, recovery }) {
    const door = { open: Promise.resolve(), let: () => {} };
    let secret = recovery ? Uint8Array.from(Buffer.from(recovery, "base64")) : null;
    const matrix = sdk.createClient({
      baseUrl: url,
      userId: user,
      deviceId: device,
      accessToken: token,
      timelineSupport: true,
      fetchFn: async (resource, options) => {
        const answer = await fetch(resource, options);
        if (String(resource).includes("/sync")) await door.open;
        return answer;
      },
      cryptoCallbacks: {
        getSecretStorageKey: async ({ keys }) => (secret ? [Object.keys(keys)[0], secret] : null),
        cacheSecretStorageKey: (id, info, key) => { secret = key; },
      },
    });
    await matrix.initRustCrypto({ useIndexedDB: false });
    const crypto = matrix.getCrypto();
    crypto.setDeviceIsolationMode(
      strict ? new cryptoApi.OnlySignedDevicesIsolationMode() : new cryptoApi.AllDevicesIsolationMode(false),
    );
    const one = new Client(matrix, door);
    clients.set(client, one);
    const filter = new sdk.Filter(user);
    filter.setTimelineLimit(1000);  // no gaps: every message is looked at
    await matrix.startClient({ filter });
    await until(() => matrix.isInitialSyncComplete(), "the first sync");
    const identify = (how) =>
      how({ type: "m.login.password", identifier: { type: "m.id.user", user }, password });
    await crypto.userHasCrossSigningKeys(user, true);  // ask whether there is an identity
    await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: identify });
    if (!recovery) {
      await crypto.bootstrapSecretStorage({
        createSecretStorageKey: () => crypto.createRecoveryKeyFromPassphrase(),
        setupNewSecretStorage: true,
      });
    }
    await until(async () => (await crypto.getDeviceVerificationStatus(user, device))?.signedByOwner, "a signed device");
    return { recovery: Buffer.from(secret).toString("base64") };
  },

  // End the session; the homeserver forgets the device.
  async logout({ client }) {
    const { matrix } = of(client);
    await matrix.logout(true);
    matrix.stopClient();
    clients.delete(client);
    return null;
  },

  // Hear nothing until `wake`: the device sleeps.
  async sleep({ client }) {
    const { door } = of(client);
    door.open = new Promise((go) => { door.let = go; });
    return null;
  },

  async wake({ client }) {
    of(client).door.let();
    return null;
  },

  // A room that is encrypted from its first event.
  async create({ client, options }) {
    const { matrix } = of(client);
    const { room_id } = await matrix.createRoom(options);
    await until(() => matrix.getRoom(room_id)?.hasEncryptionStateEvent(), "encryption of the room");
    return room_id;
  },

  async invite({ client, room, user }) {
    await of(client).matrix.invite(room, user);
    return null;
  },

  async join({ client, room }) {
    const { matrix } = of(client);
    await matrix.joinRoom(room);
    await until(() => matrix.getRoom(room)?.hasEncryptionStateEvent(), "encryption of the room");
    return null;
  },

  // Each of the bodies as a message of its own, all begun at once; the events' ids.
  async say({ client, room, bodies }) {
    const { matrix } = of(client);
    const sent = bodies.map((body) => matrix.sendTextMessage(room, body));
    return (await Promise.all(sent)).map((answer) => answer.event_id);
  },

  // Which of these people this client knows to have an identity and a device that it signed.
  async known({ client, users }) {
    const crypto = of(client).matrix.getCrypto();
    const devices = await crypto.getUserDeviceInfo(users);
    const found = [];
    for (const user of users) {
      const status = await Promise.all([...(devices.get(user)?.keys() ?? [])]
        .map((device) => crypto.getDeviceVerificationStatus(user, device)));
      if (status.some((one) => one?.signedByOwner)) found.push(user);
    }
    return found;
  },

  // Whether this client knows that device, and that its owner's identity signed it.
  async signed({ client, user, device }) {
    const crypto = of(client).matrix.getCrypto();
    return (await crypto.getDeviceVerificationStatus(user, device))?.signedByOwner ?? false;
  },

  // Whether this client knows that device at all.
  async device({ client, user, device }) {
    const devices = await of(client).matrix.getCrypto().getUserDeviceInfo([user]);
    return devices.get(user)?.has(device) ?? false;
  },

  // A new identity in place of the one there is, as somebody makes who has lost theirs; this device is signed by it.
  async reset({ client, password }) {
    const { matrix } = of(client);
    const user = matrix.getUserId();
    const crypto = matrix.getCrypto();
    await crypto.bootstrapCrossSigning({
      setupNewCrossSigning: true,
      authUploadDeviceSigningKeys: (how) =>
        how({ type: "m.login.password", identifier: { type: "m.id.user", user }, password }),
    });
    const device = matrix.getDeviceId();
    await until(async () => (await crypto.getDeviceVerificationStatus(user, device))?.signedByOwner, "a signed device");
    return null;
  },

  // Ask somebody in a room for a verification, and wait until they are ready: which of these methods they name.
  async verify({ client, room, user, methods }) {
    const one = of(client);
    one.request = await one.matrix.getCrypto().requestVerificationDM(user, room);
    await until(() => one.request.phase === cryptoApi.VerificationPhase.Ready, "readiness to be verified");
    return methods.filter((method) => one.request.otherPartySupportsMethod(method));
  },

  // The same over to-device events, of one device of theirs.
  async verifyDevice({ client, user, device, methods }) {
    const one = of(client);
    one.request = await one.matrix.getCrypto().requestDeviceVerification(user, device);
    await until(() => one.request.phase === cryptoApi.VerificationPhase.Ready, "readiness to be verified");
    return methods.filter((method) => one.request.otherPartySupportsMethod(method));
  },

  // Scan a QR code of the verification under way, and end it.
  async scan({ client, code }) {
    const verifier = await of(client).request.scanQRCode(Uint8ClampedArray.from(Buffer.from(code, "base64")));
    await verifier.verify();
    return null;
  },

  // Begin to compare emoji in the verification under way: what is shown here.
  async compare({ client }) {
    const one = of(client);
    const verifier = await one.request.startVerification("m.sas.v1");
    const shown = new Promise((go) => verifier.once(cryptoApi.VerifierEvent.ShowSas, go));
    one.verified = verifier.verify();
    one.sas = await shown;
    return one.sas.sas.emoji.map(([emoji]) => emoji);
  },

  // They are the same on the other side.
  async confirm({ client }) {
    const one = of(client);
    await one.sas.confirm();
    await one.verified;
    return null;
  },

  // Whether the person has verified that user's identity.
  async verified({ client, user }) {
    return (await of(client).matrix.getCrypto().getUserVerificationStatus(user)).isCrossSigningVerified();
  },

  // The content of somebody's last picture or other file in a room; null where there is none that can be read.
  async picture({ client, room, user }) {
    const events = [...(of(client).timelines.get(room)?.values() ?? [])].reverse();
    const found = events.find((event) => event.getSender() === user && ["m.image", "m.file"].includes(event.getContent().msgtype));
    return found?.getContent() ?? null;
  },

  // A file, encrypted as clients do (spec, "Sending encrypted attachments"); the event's id.
  async share({ client, room, data, name, mime }) {
    const { matrix } = of(client);
    const clear = Buffer.from(data, "base64");
    const counter = crypto.getRandomValues(new Uint8Array(16)).fill(0, 8);
    const key = await crypto.subtle.generateKey({ name: "AES-CTR", length: 256 }, true, ["encrypt", "decrypt"]);
    const sealed = await crypto.subtle.encrypt({ name: "AES-CTR", counter, length: 64 }, key, clear);
    const { content_uri } = await matrix.uploadContent(new Blob([sealed]), { includeFilename: false });
    const { k, alg, kty, ext, key_ops } = await crypto.subtle.exportKey("jwk", key);
    const file = {
      v: "v2",
      url: content_uri,
      key: { k, alg, kty, ext, key_ops },
      iv: unpadded(counter),
      hashes: { sha256: unpadded(await crypto.subtle.digest("SHA-256", sealed)) },
    };
    const info = { mimetype: mime, size: clear.length };
    return (await matrix.sendMessage(room, { msgtype: "m.image", body: name, info, file })).event_id;
  },

  // The bytes of somebody's last picture or other file in a room, in clear, over the authenticated endpoint.
  async open({ client, room, user }) {
    const { matrix } = of(client);
    const { file } = (await deeds.picture({ client, room, user })) ?? {};
    if (!file) return null;
    const address = matrix.mxcUrlToHttp(file.url, undefined, undefined, undefined, false, true, true);
    if (!new URL(address).pathname.startsWith("/_matrix/client/v1/media/")) throw new Error(address);
    const answer = await fetch(address, { headers: { Authorization: `Bearer ${matrix.getAccessToken()}` } });
    if (!answer.ok) throw new Error(`${answer.status} for ${address}`);
    const sealed = await answer.arrayBuffer();
    if (unpadded(await crypto.subtle.digest("SHA-256", sealed)) !== file.hashes.sha256) throw new Error("another file");
    const key = await crypto.subtle.importKey("jwk", file.key, { name: "AES-CTR" }, false, ["decrypt"]);
    const counter = Buffer.from(file.iv, "base64");
    return Buffer.from(await crypto.subtle.decrypt({ name: "AES-CTR", counter, length: 64 }, key, sealed)).toString("base64");
  },

  // What the room's bridges said of the fates of messages: the events and their status, in order.
  async fates({ client, room }) {
    return [...(of(client).timelines.get(room)?.values() ?? [])]
      .filter((event) => event.getType() === "com.beeper.message_send_status")
      .map((event) => ({ event: event.getRelation()?.event_id ?? "", status: event.getContent().status ?? "" }));
  },

  // Show the room as after the app was opened again. An event of a device that was not known as signed when the event
  // came is refused in the strict mode, and the library does not look at it a second time (EventDecryptor of
  // rust-crypto.ts takes it off its list of pending ones).
  async reopen({ client, room }) {
    const { matrix, timelines } = of(client);
    const failed = [...(timelines.get(room)?.values() ?? [])].filter((event) => event.isDecryptionFailure());
    await Promise.all(failed.map((event) => event.attemptDecryption(matrix.getCrypto(), { isRetry: true })));
    return null;
  },

  // The messages of a room as this client shows them.
  async read({ client, room }) {
    const { matrix, timelines } = of(client);
    const found = [];
    for (const event of timelines.get(room)?.values() ?? []) {
      if (event.isState() || !["m.room.message", "m.room.encrypted"].includes(event.getType())) continue;
      const info = event.isEncrypted() && !event.isDecryptionFailure()
        ? await matrix.getCrypto().getEncryptionInfoForEvent(event) : null;
      found.push({
        id: event.getId(),
        sender: event.getSender(),
        body: event.getClearContent()?.body ?? (event.isEncrypted() ? "" : event.getContent().body ?? ""),
        encrypted: event.isEncrypted(),
        waiting: event.isBeingDecrypted() || event.shouldAttemptDecryption(),
        failure: event.isDecryptionFailure() ? event.decryptionFailureReason ?? "?" : "",
        shield: info ? nameOf(cryptoApi.EventShieldColour, info.shieldColour) : "",
        why: info?.shieldReason == null ? "" : nameOf(cryptoApi.EventShieldReason, info.shieldReason),
      });
    }
    return found;
  },
};

const unpadded = (bytes) => Buffer.from(bytes).toString("base64").replaceAll("=", "");

function of(name) {
  const found = clients.get(name);
  if (!found) throw new Error(`no client ${name}`);
  return found;
}

// What the library starts and nobody waits for must not end the process.
process.on("unhandledRejection", (error) => console.error("unhandled:", error));
for await (const line of createInterface({ input: process.stdin })) {
  const { id, do: deed, ...rest } = JSON.parse(line);
  Promise.resolve()
    .then(() => deeds[deed](rest))
    .then((result) => ({ id, result }), (error) => ({ id, error: String(error?.stack ?? error) }))
    .then((answer) => process.stdout.write(`${JSON.stringify(answer)}\n`));
}
process.exit(0);
