/** ICMP errors through the NAT, both ways, and those that the gateway itself makes. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { type Endpoint, socketNumbers } from '../../lab/lab-socket.ts';
import { RawSocket } from '../../lab/raw-socket.ts';
import { TcpListener, TcpSocket } from '../../lab/tcp-socket.ts';
import type { IcmpError, UdpSocket } from '../../lab/udp-socket.ts';
import {
  ARRIVAL_MS,
  addresses,
  assertNoInsideAddress,
  describeNat,
  endpointOf,
  type LinkCapture,
  type NatLab,
} from './nat-lab.ts';
import {
  icmpError,
  icmpExtension,
  isIcmp,
  type QuotedPacket,
  quotedPacket,
  udpPacket,
} from './nat-packets.ts';

const { external } = addresses;
const UNREACHABLE = 3;
const TIME_EXCEEDED = 11;
const PORT_UNREACHABLE = 3;
const FRAGMENTATION_NEEDED = 4;
/** What errors that tell less are raised to. */
const MTU_FLOOR = 552;
const LAN_MTU = 1_280;
const REFUSED_UDP = 40_666;
const REFUSED_TCP = 40_667;

const config = {
  rules: [
    `{ name: no_udp, action: reject, from: wan, to: lan, protocol: udp, ports: [${REFUSED_UDP}] }`,
    `{ name: no_tcp, action: reject, from: wan, to: lan, protocol: tcp, ports: [${REFUSED_TCP}] }`,
  ],
};

/** A host inside that talks to one outside, and how it is seen there. */
interface Exchange extends Disposable {
  readonly alice: UdpSocket;
  readonly server: UdpSocket;
  readonly mapped: Endpoint;
}

async function exchange(place: NatLab, port = 0): Promise<Exchange> {
  const alice = place.udp('alice', port);
  const server = place.udp('server');
  const mapped = await place.externalEndpoint(alice, server);
  const close = () => {
    alice.close();
    server.close();
  };
  return { alice, server, mapped, [Symbol.dispose]: close };
}

/** A datagram of alice as the internet saw it. */
function sentDatagram(
  { mapped, server }: Exchange,
  options: { readonly options?: readonly number[]; readonly withoutChecksum?: boolean } = {},
) {
  const payload = new Uint8Array(64).fill(7);
  return udpPacket({ from: mapped, to: endpointOf(server), payload, timeToLive: 60, ...options });
}

const NO_OPERATION = 1;

const wholeErrors: Readonly<Record<string, (subject: Exchange) => Uint8Array>> = {
  'a whole datagram': (subject) => sentDatagram(subject),
  'the first eight bytes behind the header': (subject) => sentDatagram(subject).subarray(0, 28),
  'a header with options': (subject) =>
    sentDatagram(subject, { options: Array(8).fill(NO_OPERATION) }),
  'a datagram without checksum': (subject) => sentDatagram(subject, { withoutChecksum: true }),
  'a datagram with a wrong checksum': (subject) => changed(sentDatagram(subject), 26),
};

const brokenErrors: Readonly<Record<string, (subject: Exchange) => Uint8Array>> = {
  'an IP header with a wrong checksum': (subject) => changed(sentDatagram(subject), 10),
  'less than eight bytes behind the header': (subject) => sentDatagram(subject).subarray(0, 27),
  'less than an IP header': (subject) => sentDatagram(subject).subarray(0, 16),
  'a header longer than what is quoted': (subject) => {
    const packet = sentDatagram(subject).slice(0, 28);
    packet[0] = 0x4f;
    return packet;
  },
  'a port that nobody has mapped': (subject) =>
    sentDatagram({ ...subject, mapped: { ...subject.mapped, port: 1_777 } }),
  'a remote to whom nobody has talked': ({ mapped }) =>
    udpPacket({ from: mapped, to: { address: '192.0.2.77', port: 9 }, payload: new Uint8Array(8) }),
  'a packet of somebody else': ({ server, mapped }) =>
    udpPacket({ from: endpointOf(server), to: mapped, payload: new Uint8Array(8) }),
};

function changed(packet: Uint8Array<ArrayBuffer>, at: number): Uint8Array<ArrayBuffer> {
  packet[at] = (packet[at] ?? 0) ^ 0x55;
  return packet;
}

/** An error of the provider's router. */
function errorAbout(
  quoted: Uint8Array,
  more: { code?: number; mtu?: number; extension?: Uint8Array } = {},
) {
  const { code = PORT_UNREACHABLE, ...rest } = more;
  const from = { source: addresses.isp, destination: external };
  return icmpError({ ...from, type: UNREACHABLE, code, quoted, ...rest });
}

async function assertError(socket: UdpSocket, expected: Partial<IcmpError>): Promise<void> {
  const error = await socket.nextError(ARRIVAL_MS);
  assert.deepEqual({ ...error, ...expected }, error);
}

/** Sends errors to alice, and returns what her link carried, with what they are about. */
async function delivered(
  place: NatLab,
  subject: Exchange,
  packets: readonly Uint8Array[],
): Promise<QuotedPacket[]> {
  const capture = await place.captureAlice();
  using isp = RawSocket.open(place.host('isp'));
  for (const packet of packets) isp.send(external, packet);
  // Later than all of them, on the same way.
  await place.externalEndpoint(subject.alice, subject.server);
  const frames = await capture.end();
  return frames.filter(isIcmp).map(quotedPacket);
}

describeNat({ name: 'naterrors', config }, (place) => {
  let onWan: LinkCapture;

  before(async () => {
    onWan = await place().captureWan();
  });

  test('survive-63 RFC 5508 REQ-4: a closed port outside is told to whoever has tried it', async () => {
    using alice = place().udp('alice');
    const to = { address: addresses.server, port: 9 };
    alice.send(to, 'anybody there?');
    const offender = addresses.server;
    await assertError(alice, { type: UNREACHABLE, code: PORT_UNREACHABLE, to, offender });
  });

  test('survive-63 RFC 5382 REQ-9: TCP learns that a host outside cannot be reached', async () => {
    const nowhere = ['route', 'add', 'unreachable', '203.0.113.99/32'] as const;
    await place().output('isp', 'ip', ...nowhere);
    const connecting = TcpSocket.connected(place().host('alice'), {
      to: { address: '203.0.113.99', port: 80 },
      timeoutMs: ARRIVAL_MS,
    });
    await assert.rejects(connecting, { code: 'EHOSTUNREACH' });
  });

  for (const [what, quote] of Object.entries(wholeErrors)) {
    test(`survive-63 an error that quotes ${what} is translated, checksums too`, async () => {
      using subject = await exchange(place());
      const quoted = quote(subject);
      const [arrived, ...more] = await delivered(place(), subject, [errorAbout(quoted)]);
      assert.deepEqual(more, []);
      const udpChecksum =
        quoted.length < 92
          ? 'cut'
          : what.includes('without')
            ? 'none'
            : what.includes('wrong')
              ? 'wrong'
              : 'right';
      assert.deepEqual(arrived, {
        from: endpointOf(subject.alice),
        to: endpointOf(subject.server),
        isChecksumRight: true,
        udpChecksum,
        isMessageChecksumRight: true,
      });
      const to = endpointOf(subject.server);
      await assertError(subject.alice, { type: UNREACHABLE, to, offender: addresses.isp });
    });
  }

  test('survive-63 an error with extensions behind the quoted packet is translated', async () => {
    using subject = await exchange(place());
    const error = errorAbout(sentDatagram(subject), { extension: icmpExtension() });
    const [arrived] = await delivered(place(), subject, [error]);
    assert.equal(arrived?.udpChecksum, 'right');
    assert.equal(arrived?.isMessageChecksumRight, true);
    await assertError(subject.alice, { type: UNREACHABLE, offender: addresses.isp });
  });

  test('survive-63 RFC 5508 REQ-3: errors that are broken or about nothing of ours are dropped', async () => {
    using subject = await exchange(place());
    const broken = Object.values(brokenErrors).map((quote) => errorAbout(quote(subject)));
    const damaged = changed(errorAbout(sentDatagram(subject)), 22);
    assert.deepEqual(await delivered(place(), subject, [...broken, damaged]), []);
    assert.equal(subject.alice.takeError(), undefined);
  });

  test('survive-64 no error, forged or not, ends or prolongs a mapping', async () => {
    using subject = await exchange(place());
    const errors = [0, 1, 2, PORT_UNREACHABLE, 9, 10, 13].map((code) =>
      errorAbout(sentDatagram(subject), { code }),
    );
    assert.equal((await delivered(place(), subject, errors)).length, errors.length);
    const again = await place().externalEndpoint(subject.alice, subject.server);
    assert.deepEqual(again, subject.mapped);
  });

  test('survive-64 the MTU that an error tells is raised to what is plausible', async () => {
    using subject = await exchange(place());
    subject.alice.setOption(
      socketNumbers.SOL_IP,
      socketNumbers.IP_MTU_DISCOVER,
      socketNumbers.IP_PMTUDISC_DO,
    );
    const told = [68, 1_400].map((mtu) =>
      errorAbout(sentDatagram(subject), { code: FRAGMENTATION_NEEDED, mtu }),
    );
    await delivered(place(), subject, told);
    await assertError(subject.alice, { code: FRAGMENTATION_NEEDED, info: MTU_FLOOR });
    await assertError(subject.alice, { code: FRAGMENTATION_NEEDED, info: 1_400 });
    await place().output('alice', 'ip', 'route', 'flush', 'cache');
  });

  test('survive-63 RFC 5508 REQ-5: a closed port inside is told from the external address', async () => {
    using subject = await exchange(place());
    subject.alice.close();
    subject.server.send(subject.mapped, 'still there?');
    await assertError(subject.server, {
      type: UNREACHABLE,
      code: PORT_UNREACHABLE,
      to: subject.mapped,
      offender: external,
    });
  });

  test('survive-75 a packet that dies at the gateway is told from the external address', async () => {
    using subject = await exchange(place());
    subject.server.setOption(socketNumbers.SOL_IP, socketNumbers.IP_TTL, 2);
    subject.server.send(subject.mapped, 'not so far');
    await assertError(subject.server, {
      type: TIME_EXCEEDED,
      code: 0,
      to: subject.mapped,
      offender: external,
    });
    assert.deepEqual(subject.alice.drain(), []);
  });

  test('survive-80 RFC 4787 REQ-13: what is too large for the LAN is told from the external address', async () => {
    using subject = await exchange(place());
    await place().output('gateway', 'ip', 'link', 'set', 'dev', 'lan0', 'mtu', `${LAN_MTU}`);
    subject.server.setOption(
      socketNumbers.SOL_IP,
      socketNumbers.IP_MTU_DISCOVER,
      socketNumbers.IP_PMTUDISC_DO,
    );
    subject.server.send(subject.mapped, new Uint8Array(LAN_MTU));
    await assertError(subject.server, {
      type: UNREACHABLE,
      code: FRAGMENTATION_NEEDED,
      info: LAN_MTU,
      to: subject.mapped,
      offender: external,
    });
    await place().output('gateway', 'ip', 'link', 'set', 'dev', 'lan0', 'mtu', '1500');
  });

  test('survive-72 a rule that rejects new datagrams from outside answers from the mapping', async () => {
    using subject = await exchange(place(), REFUSED_UDP);
    using stranger = place().udp('stranger');
    stranger.send(subject.mapped, 'let me in');
    await assertError(stranger, { type: UNREACHABLE, to: subject.mapped, offender: external });
    // Whom alice talks to is not refused.
    subject.server.send(subject.mapped, 'it is me');
    assert.equal(`${(await subject.alice.nextDatagram(ARRIVAL_MS)).payload}`, 'it is me');
    assert.deepEqual(subject.alice.drain(), []);
  });

  test('survive-72 a rule that rejects new connections from outside resets them from the mapping', async () => {
    using listener = TcpListener.open(place().host('server'), {
      address: addresses.server,
      port: 7_000,
    });
    using _opened = await TcpSocket.connected(place().host('alice'), {
      from: { port: REFUSED_TCP },
      to: listener.local,
      timeoutMs: ARRIVAL_MS,
    });
    const { from: mapped } = await listener.next(ARRIVAL_MS);
    const connecting = TcpSocket.connected(place().host('stranger'), {
      to: mapped,
      timeoutMs: ARRIVAL_MS,
    });
    await assert.rejects(connecting, { code: 'ECONNREFUSED' });
  });

  test('survive-62 RFC 5508 REQ-7: errors between hosts inside are about the external endpoints', async () => {
    using subject = await exchange(place());
    using bob = place().udp('bob');
    subject.alice.close();
    bob.send(subject.mapped, 'still there?');
    await assertError(bob, {
      type: UNREACHABLE,
      code: PORT_UNREACHABLE,
      to: subject.mapped,
      offender: external,
    });
  });

  test('survive-63 nothing of all this has shown an inside address on the WAN', () =>
    assertNoInsideAddress(onWan));
});
