// One client of ts-mls, driven by lines of JSON: {"do": name, ...arguments} in, {"ok": result} or {"error": sentence}
// out. Bytes are hex.
import { createInterface } from "node:readline";
import {
  acceptAll, createApplicationMessage, createCommit, createGroup, createGroupInfoWithExternalPubAndRatchetTree,
  createProposal, decodeMlsMessage, defaultCapabilities, emptyPskIndex, encodeMlsMessage,
  generateKeyPackage, getCiphersuiteFromName, getCiphersuiteImpl, joinGroup, mlsExporter, processMessage,
} from "ts-mls"

const suite = await getCiphersuiteImpl(getCiphersuiteFromName("MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"))
const hex = (bytes) => Buffer.from(bytes).toString("hex")
const bytes = (text) => new Uint8Array(Buffer.from(text ?? "", "hex"))
const message = (text) => decodeMlsMessage(bytes(text), 0)[0]
const encoded = (wireformat, field, value) => hex(encodeMlsMessage({ version: "mls10", wireformat, [field]: value }))
const extensions = (items) =>
  (items ?? []).map(([type, data]) => ({ extensionType: type, extensionData: bytes(data) }))

let mine, state

const commands = {
  async start({ name, extensions: types }) {
    const capabilities = { ...defaultCapabilities(), extensions: types ?? [] }
    const now = BigInt(Math.floor(Date.now() / 1000))
    const lifetime = { notBefore: now - 3600n, notAfter: now + 30n * 86400n } // its own default is for ever
    const credential = { credentialType: "basic", identity: new TextEncoder().encode(name) }
    mine = await generateKeyPackage(credential, capabilities, lifetime, [], suite)
    return encoded("mls_key_package", "keyPackage", mine.publicPackage)
  },
  async create({ group, extensions: items }) {
    state = await createGroup(bytes(group), mine.publicPackage, mine.privatePackage, extensions(items), suite)
  },
  async join({ welcome }) {
    const found = message(welcome).welcome
    state = await joinGroup(found, mine.publicPackage, mine.privatePackage, emptyPskIndex, suite)
  },
  async commit({ add, remove, aad }) {
    const proposals = [
      ...(add ?? []).map((each) => ({ proposalType: "add", add: { keyPackage: message(each).keyPackage } })),
      ...(remove ?? []).map((leaf) => ({ proposalType: "remove", remove: { removed: leaf } })),
    ]
    const options = {
      extraProposals: proposals, wireAsPublicMessage: true, ratchetTreeExtension: true, authenticatedData: bytes(aad),
    }
    const made = await createCommit({ state, cipherSuite: suite }, options)
    state = made.newState
    const welcome = made.welcome && encoded("mls_welcome", "welcome", made.welcome)
    return { commit: hex(encodeMlsMessage(made.commit)), welcome }
  },
  async propose({ remove, aad }) {
    const proposal = { proposalType: "remove", remove: { removed: remove } }
    const made = await createProposal(state, true, proposal, suite, bytes(aad))
    state = made.newState
    return hex(encodeMlsMessage(made.message))
  },
  async encrypt({ data, aad }) {
    const made = await createApplicationMessage(state, bytes(data), suite, bytes(aad))
    state = made.newState
    return encoded("mls_private_message", "privateMessage", made.privateMessage)
  },
  async process({ message: text }) {
    const decoded = message(text)
    const framed = decoded.privateMessage ?? decoded.publicMessage
    const aad = hex(framed.authenticatedData ?? framed.content.authenticatedData)
    const done = await processMessage(decoded, state, emptyPskIndex, acceptAll, suite)
    state = done.newState
    return { kind: done.kind, data: done.message && hex(done.message), aad }
  },
  async groupInfo() {
    const info = await createGroupInfoWithExternalPubAndRatchetTree(state, [], suite)
    return encoded("mls_group_info", "groupInfo", info)
  },
  async look() {
    return {
      epoch: Number(state.groupContext.epoch),
      extensions: state.groupContext.extensions
        .filter(({ extensionType }) => typeof extensionType === "number")
        .map(({ extensionType, extensionData }) => [extensionType, hex(extensionData)]),
      secret: hex(await mlsExporter(state.keySchedule.exporterSecret, "interop", new Uint8Array(), 32, suite)),
    }
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...given } = JSON.parse(line)
  try {
    console.log(JSON.stringify({ ok: (await commands[name](given)) ?? null }))
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }))
  }
}
