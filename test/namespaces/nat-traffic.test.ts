/** Everyday traffic through the NAT, by the programs that people use. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { before, test } from 'node:test';
import { socketNumbers } from '../../lab/lab-socket.ts';
import { TcpListener, TcpSocket } from '../../lab/tcp-socket.ts';
import { saidBy, TIMEOUT_MS } from './gatehouse-lab.ts';
import {
  ARRIVAL_MS,
  addresses,
  assertNoInsideAddress,
  describeNat,
  endpointOf,
  type HostName,
  NARROW_MTU,
  type NatLab,
} from './nat-lab.ts';

const IPERF_PORT = 5_201;
/** IPv4 and TCP without options. */
const HEADERS_BYTES = 40;
const FORWARDED_PORT = 8_080;
const FORWARDED_TO = 80;

interface IperfSummary {
  readonly bytes: number;
  readonly lost_packets?: number;
  readonly packets?: number;
}

/** What was received in the end. */
async function iperf(
  place: NatLab,
  to: 'server' | 'far',
  ...flags: readonly string[]
): Promise<IperfSummary> {
  const fixed = ['iperf3', '-c', addresses[to], '-p', `${IPERF_PORT}`, '--json'] as const;
  const options = { timeoutMs: TIMEOUT_MS };
  const result = await place.host('alice').run([...fixed, ...flags], options);
  const report = JSON.parse(result.stdout) as {
    readonly error?: string;
    readonly end: { readonly sum?: IperfSummary; readonly sum_received?: IperfSummary };
  };
  assert.ok(result.success, report.error ?? saidBy(result));
  return report.end.sum_received ?? report.end.sum ?? assert.fail(result.stdout);
}

async function startIperf(place: NatLab): Promise<void> {
  for (const name of ['server', 'far'] as const) {
    const argv = ['iperf3', '-s', '-p', `${IPERF_PORT}`, '--forceflush'] as const;
    await place
      .host(name)
      .spawn(argv)
      .waitForOutput(/listening/, TIMEOUT_MS);
  }
}

/** The addresses that answered, hop by hop; '*' where none did. */
async function traceroute(
  place: NatLab,
  host: HostName,
  ...words: readonly string[]
): Promise<string[]> {
  const argv = ['traceroute', '-n', '-q', '1', '-w', '2', '-m', '6', ...words] as const;
  const said = await place.output(host, ...argv);
  return said
    .split('\n')
    .slice(1)
    .flatMap((line) => /^ *\d+ +(\S+)/.exec(line)?.[1] ?? []);
}

async function ping(
  place: NatLab,
  host: HostName,
  ...words: readonly string[]
): Promise<{ readonly sent: number; readonly received: number }> {
  const argv = ['ping', '-n', '-i', '0.01', '-W', '2', ...words] as const;
  const { stdout } = await place.host(host).run(argv, { timeoutMs: TIMEOUT_MS });
  const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(stdout) ?? [];
  return { sent: Number(sent), received: Number(received) };
}

/** What alice's kernel has learnt about the way. */
async function pathMtu(place: NatLab, to: string): Promise<number | undefined> {
  const text = await place.output('alice', 'ip', '-json', 'route', 'get', to);
  const [route] = JSON.parse(text) as { readonly metrics?: { readonly mtu?: number }[] }[];
  return route?.metrics?.find(({ mtu }) => mtu !== undefined)?.mtu;
}

const hopsToFar = [addresses.gatewayLan, addresses.isp, addresses.narrow, addresses.far];

describeNat(
  {
    name: 'nattraffic',
    config: {
      portForwards: [
        `{ protocol: tcp, port: ${FORWARDED_PORT}, to: ${addresses.alice}:${FORWARDED_TO} }`,
      ],
    },
  },
  (place) => {
    before(() => startIperf(place()));

    for (const [direction, flags] of [
      ['out', []],
      ['in', ['-R']],
    ] as const) {
      test(`iperf3 carries TCP ${direction}`, async () => {
        const { bytes } = await iperf(place(), 'server', '-n', '20M', ...flags);
        assert.ok(bytes > 1024 * 1024, `${bytes}`);
      });

      test(`iperf3 carries UDP ${direction} without loss`, async () => {
        // Few enough for the receiver's buffer, if it does not get to read any.
        const amount = ['-u', '-b', '5M', '-n', '96K', '-l', '1200'];
        const received = await iperf(place(), 'server', ...amount, ...flags);
        assert.equal(received.lost_packets, 0);
        // What a receiver on a busy machine has not read when the test ends, it does not count.
        assert.ok((received.packets ?? 0) > 0);
      });
    }

    test('survive-74 TCP arrives as it was sent, in large segments too', async () => {
      const data = randomBytes(4 * 1024 * 1024);
      const { inside, outside } = await connection(place(), 'server');
      for (const [from, to] of [
        [inside, outside],
        [outside, inside],
      ] as const) {
        const [received] = await Promise.all([
          to.waitForBytes(data.length, ARRIVAL_MS),
          from.writeAll(data, ARRIVAL_MS),
        ]);
        assert.ok(received.equals(data));
      }
    });

    test('survive-80 TCP learns of a narrow link behind the NAT', async () => {
      await place().output('alice', 'ip', 'route', 'flush', 'cache');
      const capture = await place().captureWan();
      const { inside, outside } = await connection(place(), 'far');
      const data = randomBytes(200_000);
      await inside.writeAll(data, ARRIVAL_MS);
      assert.ok((await outside.waitForBytes(data.length, ARRIVAL_MS)).equals(data));
      assert.equal(await pathMtu(place(), addresses.far), NARROW_MTU);
      await assertNoInsideAddress(capture);
    });

    test('iperf3 carries both directions of TCP at once', async () => {
      const { bytes } = await iperf(place(), 'server', '--bidir', '-n', '10M');
      assert.ok(bytes > 0);
    });

    test('RFC 5508 REQ-1: every ping is answered', async () => {
      const few = await ping(place(), 'alice', '-c', '20', addresses.server);
      assert.deepEqual(few, { sent: 20, received: 20 });
    });

    test('RFC 5508 REQ-1: two hosts ping the same server with the same identifier', async () => {
      const words = ['-c', '50', '-e', '7', addresses.server];
      const all = await Promise.all([
        ping(place(), 'alice', ...words),
        ping(place(), 'bob', ...words),
      ]);
      for (const one of all) assert.deepEqual(one, { sent: 50, received: 50 });
    });

    test('RFC 4787 REQ-14: pings larger than a frame are answered', async () => {
      const large = await ping(place(), 'alice', '-c', '5', '-s', '8000', addresses.server);
      assert.deepEqual(large, { sent: 5, received: 5 });
    });

    test('the gateway answers pings, from inside at both of its addresses', async () => {
      for (const to of [addresses.gatewayLan, addresses.external]) {
        const answered = await ping(place(), 'alice', '-c', '3', to);
        assert.deepEqual(answered, { sent: 3, received: 3 });
      }
    });

    for (const [how, words] of [
      ['UDP', []],
      ['ICMP', ['-I']],
      ['TCP', ['-T', '-p', '7']],
    ] as const) {
      test(`survive-63 traceroute by ${how} sees every hop behind the NAT`, async () => {
        const capture = await place().captureWan();
        assert.deepEqual(await traceroute(place(), 'alice', ...words, addresses.far), hopsToFar);
        await assertNoInsideAddress(capture);
      });
    }

    test('survive-80 RFC 4787 REQ-13: what is too large for the WAN is answered by the gateway', async () => {
      await using _narrowed = await narrowWan(place());
      using socket = place().udp('alice');
      using server = place().udp('server');
      socket.setOption(
        socketNumbers.SOL_IP,
        socketNumbers.IP_MTU_DISCOVER,
        socketNumbers.IP_PMTUDISC_DO,
      );
      socket.send(endpointOf(server), new Uint8Array(NARROW_MTU));
      const { type, code, info, offender } = await socket.nextError(ARRIVAL_MS);
      const told = { type, code, info, offender };
      const mtu = { type: 3, code: 4, info: NARROW_MTU };
      assert.deepEqual(told, { ...mtu, offender: addresses.gatewayLan });
    });

    test('survive-80 every MSS that leaves suits a narrow WAN, of SYN and SYN-ACK', async () => {
      await using _narrowed = await narrowWan(place());
      const capture = await place().captureWan();
      await connection(place(), 'server');
      await connection(place(), 'server', { opener: 'outside' });
      const displayFilter = `ip.src == ${addresses.external} && tcp.flags.syn == 1`;
      const sent = await capture.packets(['tcp.options.mss_val'], displayFilter);
      const sizes = sent.map((packet) => Number(packet['tcp.options.mss_val']));
      assert.deepEqual(sizes, [NARROW_MTU - HEADERS_BYTES, NARROW_MTU - HEADERS_BYTES]);
    });

    test('survive-80 thanks to the MSS, nothing of a connection is too large for it', async () => {
      await using _narrowed = await narrowWan(place());
      const captures = [await place().captureAlice(), await place().captureWan()];
      const data = randomBytes(200_000);
      const { inside, outside } = await connection(place(), 'server');
      await Promise.all([inside.writeAll(data, ARRIVAL_MS), outside.writeAll(data, ARRIVAL_MS)]);
      for (const end of [inside, outside]) await end.waitForBytes(data.length, ARRIVAL_MS);
      for (const capture of captures) {
        assert.equal((await capture.packets(['icmp.type'], 'icmp')).length, 0);
      }
    });
  },
);

/** A connection between alice and a host outside. */
async function connection(
  place: NatLab,
  remote: 'server' | 'far',
  options: { readonly opener: 'inside' | 'outside' } = { opener: 'inside' },
): Promise<{ readonly inside: TcpSocket; readonly outside: TcpSocket }> {
  const isOut = options.opener === 'inside';
  const listensAt = isOut ? remote : 'alice';
  using listener = TcpListener.open(place.host(listensAt), {
    address: addresses[listensAt],
    port: FORWARDED_TO,
  });
  const forwarded = { address: addresses.external, port: FORWARDED_PORT };
  const opener = await TcpSocket.connected(place.host(isOut ? 'alice' : remote), {
    to: isOut ? listener.local : forwarded,
    timeoutMs: ARRIVAL_MS,
  });
  const { connection: accepted } = await listener.next(ARRIVAL_MS);
  return isOut ? { inside: opener, outside: accepted } : { inside: accepted, outside: opener };
}

/** Nobody knows of it yet. */
async function narrowWan(place: NatLab): Promise<AsyncDisposable> {
  for (const name of ['alice', 'server'] as const) {
    await place.output(name, 'ip', 'route', 'flush', 'cache');
  }
  await place.setWanMtu(NARROW_MTU);
  return { [Symbol.asyncDispose]: () => place.setWanMtu(1_500) };
}
