// A js-libp2p node that speaks TLS, yamux, identify and ping. Prints one JSON object a line.
//   node peer.mjs KEY_TYPE [MULTIADDR]     dials and pings MULTIADDR when there is one
// Ends when its standard input does.

// Node 20 lacks this one function of those that js-libp2p uses; imports come after it.
Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new Promise((yes, no) => { resolve = yes; reject = no })
  return { promise, resolve, reject }
}
const { createLibp2p } = await import('libp2p')
const { tcp } = await import('@libp2p/tcp')
const { tls } = await import('@libp2p/tls')
const { yamux } = await import('@chainsafe/libp2p-yamux')
const { identify } = await import('@libp2p/identify')
const { ping } = await import('@libp2p/ping')
const { generateKeyPair } = await import('@libp2p/crypto/keys')
const { multiaddr } = await import('@multiformats/multiaddr')

const say = (facts) => console.log(JSON.stringify(facts))
const node = await createLibp2p({
  privateKey: await generateKeyPair(process.argv[2]),
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [tls()],
  streamMuxers: [yamux()],
  services: { identify: identify(), ping: ping() }
})
say({ peer: node.peerId.toString(), port: Number(node.getMultiaddrs()[0].toString().split('/')[4]) })
node.addEventListener('peer:identify', ({ detail }) => say({
  identified: detail.peerId.toString(), agent: detail.agentVersion, protocols: detail.protocols
}))
process.stdin.on('end', async () => { await node.stop(); process.exit(0) })
process.stdin.resume()
if (process.argv[3]) say({ ping: await node.services.ping.ping(multiaddr(process.argv[3])) })
