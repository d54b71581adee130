/** Cases of mappings, ports and quotas: RFC 4787, and what of it holds for TCP too. */
import { NatLimits } from '../abi/layouts.generated.ts';
import { requireIpv4Address } from '../net/ipv4-address.ts';
import {
  delivered,
  dropped,
  fromGateway,
  into,
  type NatCase,
  type NatStep,
  out,
  SLOTS_PER_BUCKET,
  told,
  wait,
} from './nat-case.ts';
import { ping, rawIp, tcp, udp, withBytes } from './nat-packets.ts';
import { natTestSettings } from './nat-test-settings.ts';

const opened = ['mappingsOpened', 'sessionsOpened'] as const;
const host = '10.77.0.2';
const neighbour = '10.77.0.3';
const remote = '198.51.100.1';
const stranger = '198.51.100.2';
const shared = '203.0.113.1';
const fewPorts = { pool: { first: 5000, last: 5003 } };
const { times } = natTestSettings;

const mapping: readonly NatCase[] = [
  {
    name: 'rfc4787-req1 two remotes see an inside endpoint at the same external one',
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      out(
        udp(`${host}:5000 > ${stranger}:99`),
        udp(`${shared}:5000 > ${stranger}:99`),
        'sessionsOpened',
      ),
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`)),
    ],
  },
  {
    name: 'rfc5382-req1 two remotes see a TCP endpoint at the same external one',
    steps: [
      out(
        tcp(`${host}:5000 > ${remote}:80`, 'S'),
        tcp(`${shared}:5000 > ${remote}:80`, 'S'),
        ...opened,
      ),
      out(
        tcp(`${host}:5000 > ${stranger}:80`, 'S'),
        tcp(`${shared}:5000 > ${stranger}:80`, 'S'),
        'sessionsOpened',
      ),
    ],
  },
  {
    name: 'rfc4787-req3 survive-73 two hosts with one port get two external ports of its parity',
    settings: fewPorts,
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      out(udp(`${neighbour}:5000 > ${remote}:53`), udp(`${shared}:5002 > ${remote}:53`), ...opened),
      into(udp(`${remote}:53 > ${shared}:5000`), udp(`${remote}:53 > ${host}:5000`), 'reply'),
      into(udp(`${remote}:53 > ${shared}:5002`), udp(`${remote}:53 > ${neighbour}:5000`), 'reply'),
    ],
  },
  {
    name: 'survive-59 without a free port new flows are refused, and those that are there live on',
    settings: { pool: { first: 5000, last: 5001 } },
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      out(udp(`${neighbour}:5000 > ${remote}:53`), udp(`${shared}:5001 > ${remote}:53`), ...opened),
      told('inside-ingress', udp(`10.77.0.4:5000 > ${remote}:53`), 'request'),
      dropped('wan-egress', udp(`10.77.0.4:5000 > ${remote}:53`), 'droppedNoPort'),
      // The search is not repeated for a while, and nft is told before.
      told('inside-ingress', udp(`10.77.0.4:5000 > ${remote}:53`), 'full', 'refusedFull'),
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`)),
      wait(NatLimits.searchRestTicks - 1),
      told('inside-ingress', udp(`10.77.0.4:5000 > ${remote}:53`), 'full', 'refusedFull'),
      wait(1),
      told('inside-ingress', udp(`10.77.0.4:5000 > ${remote}:53`), 'request'),
    ],
  },
  {
    name: 'rfc4787-req3a a well-known port that is taken becomes a well-known one of its parity',
    steps: [
      out(udp(`${host}:80 > ${remote}:53`), udp(`${shared}:80 > ${remote}:53`), ...opened),
      out(udp(`${neighbour}:80 > ${remote}:53`), udp(`${shared}:662 > ${remote}:53`), ...opened),
    ],
  },
  {
    name: 'rfc4787-req4 a port outside the pool becomes one of the pool with its parity',
    steps: [
      out(udp(`${host}:61500 > ${remote}:53`), udp(`${shared}:24566 > ${remote}:53`), ...opened),
      out(udp(`${host}:61501 > ${remote}:53`), udp(`${shared}:19141 > ${remote}:53`), ...opened),
    ],
  },
  {
    name: 'rfc4787-req5 a UDP session and its mapping live for their time, and end after it',
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      wait(times.udp),
      into(udp(`${remote}:53 > ${shared}:5000`), udp(`${remote}:53 > ${host}:5000`), 'reply'),
      wait(times.udp + 9),
      told('wan-ingress', udp(`${remote}:53 > ${shared}:5000`), 'request'),
    ],
  },
  {
    name: 'rfc4787-req6 what the inside sends keeps a mapping alive',
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      wait(30),
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`)),
      wait(times.udp),
      into(
        udp(`${stranger}:9 > ${shared}:5000`),
        udp(`${stranger}:9 > ${host}:5000`),
        'mapped',
        'sessionsOpened',
      ),
    ],
  },
  {
    name: 'rfc4787-req6 rfc7857-s7 survive-70 answers keep a mapping alive, strangers do not',
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      wait(30),
      into(udp(`${remote}:53 > ${shared}:5000`), udp(`${remote}:53 > ${host}:5000`), 'reply'),
      wait(40),
      into(
        udp(`${stranger}:9 > ${shared}:5000`),
        udp(`${stranger}:9 > ${host}:5000`),
        'mapped',
        'sessionsOpened',
      ),
      delivered(udp(`${stranger}:9 > ${host}:5000`), 'mapped'),
      wait(9),
      told('wan-ingress', udp(`${stranger}:9 > ${shared}:5000`), 'request'),
    ],
  },
  {
    name: 'rfc4787-req2 every protocol of a host has the same of several external addresses',
    settings: {
      externals: ['203.0.113.1', '203.0.113.2', '203.0.113.3'].map((text) => ({
        address: requireIpv4Address(text),
        filtering: 'endpoint-independent' as const,
      })),
    },
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`203.0.113.2:5000 > ${remote}:53`), ...opened),
      out(
        tcp(`${host}:5001 > ${remote}:53`, 'S'),
        tcp(`203.0.113.2:5001 > ${remote}:53`, 'S'),
        ...opened,
      ),
      out(
        ping(`${host} > ${remote}`, { identifier: 7 }),
        ping(`203.0.113.2 > ${remote}`, { identifier: 7 }),
        ...opened,
      ),
    ],
  },
];

const narrowest = '10.79.0.2';

const forward = {
  class: 'udp',
  external: 0,
  externalPort: 53,
  insideAddress: requireIpv4Address(narrowest),
  insidePort: 5353,
} as const;

const others: readonly NatCase[] = [
  {
    name: 'survive-71 answers to pings of the gateway’s own stay with it',
    steps: [
      out(
        ping(`${host} > ${remote}`, { identifier: 7 }),
        ping(`${shared} > ${remote}`, { identifier: 7 }),
        ...opened,
      ),
      told('wan-ingress', ping(`${stranger} > ${shared}`, { identifier: 7, type: 0 }), 'request'),
    ],
  },
  {
    name: 'survive-79 what comes back to a tunnel of the gateway’s own stays with it',
    steps: [
      out(rawIp(`${host} > ${remote}`, 47), rawIp(`${shared} > ${remote}`, 47), 'sessionsOpened'),
      fromGateway(rawIp(`${shared} > ${remote}`, 47), rawIp(`${shared} > ${remote}`, 47)),
      told('wan-ingress', rawIp(`${remote} > ${shared}`, 47), 'request'),
      dropped('wan-egress', rawIp(`${host} > ${remote}`, 47), 'droppedProtocolBusy'),
    ],
  },
  {
    name: 'a port forward is open to everybody, and answers leave by it',
    portForwards: [forward],
    steps: [
      into(
        udp(`${stranger}:9 > ${shared}:53`),
        udp(`${stranger}:9 > ${narrowest}:5353`),
        'portForward',
        'sessionsOpened',
      ),
      delivered(udp(`${stranger}:9 > ${narrowest}:5353`), 'portForward'),
      told('inside-ingress', udp(`${narrowest}:5353 > ${stranger}:9`), 'reply'),
      out(udp(`${narrowest}:5353 > ${stranger}:9`), udp(`${shared}:53 > ${stranger}:9`)),
      wait(10_000),
      into(
        udp(`${stranger}:9 > ${shared}:53`),
        udp(`${stranger}:9 > ${narrowest}:5353`),
        'portForward',
        'sessionsOpened',
      ),
    ],
  },
  {
    name: 'what nft did not let in is no session: the host that answers opens its own',
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      into(
        udp(`${stranger}:9 > ${shared}:5000`),
        udp(`${stranger}:9 > ${host}:5000`),
        'mapped',
        'sessionsOpened',
      ),
      told('inside-ingress', udp(`${host}:5000 > ${stranger}:9`), 'request'),
      out(
        udp(`${host}:5000 > ${stranger}:9`),
        udp(`${shared}:5000 > ${stranger}:9`),
        'sessionsClosed',
        'sessionsOpened',
      ),
      into(udp(`${stranger}:9 > ${shared}:5000`), udp(`${stranger}:9 > ${host}:5000`), 'reply'),
    ],
  },
  {
    name: 'strangers open a limited number of sessions by one mapping, and pass without beyond it',
    settings: { outsideSessionsPerMapping: 1 },
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      into(
        udp(`${stranger}:1 > ${shared}:5000`),
        udp(`${stranger}:1 > ${host}:5000`),
        'mapped',
        'sessionsOpened',
      ),
      into(
        udp(`${stranger}:2 > ${shared}:5000`),
        udp(`${stranger}:2 > ${host}:5000`),
        'mapped',
        'unansweredLimit',
      ),
      delivered(udp(`${stranger}:1 > ${host}:5000`), 'mapped'),
      out(udp(`${host}:5000 > ${stranger}:1`), udp(`${shared}:5000 > ${stranger}:1`)),
      into(
        udp(`${stranger}:2 > ${shared}:5000`),
        udp(`${stranger}:2 > ${host}:5000`),
        'mapped',
        'sessionsOpened',
      ),
    ],
  },
  {
    name: 'rfc4787-req3 rfc5382-req7 no session goes on to use the port of a mapping that ended',
    settings: fewPorts,
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      into(
        udp(`${stranger}:9 > ${shared}:5000`),
        udp(`${stranger}:9 > ${host}:5000`),
        'mapped',
        'sessionsOpened',
      ),
      delivered(udp(`${stranger}:9 > ${host}:5000`), 'mapped'),
      out(udp(`${host}:5000 > ${stranger}:9`), udp(`${shared}:5000 > ${stranger}:9`)),
      wait(30),
      into(udp(`${stranger}:9 > ${shared}:5000`), udp(`${stranger}:9 > ${host}:5000`), 'mapped'),
      wait(times.udp + 9 - 30),
      out(udp(`${neighbour}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      out(
        udp(`${host}:5000 > ${stranger}:9`),
        udp(`${shared}:5002 > ${stranger}:9`),
        'sessionsClosed',
        ...opened,
      ),
    ],
  },
  {
    name: 'survive-60 strangers use up half of the quota of a host, never what it needs itself',
    settings: { sessionsPerHost: 4 },
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      into(
        udp(`${stranger}:1 > ${shared}:5000`),
        udp(`${stranger}:1 > ${host}:5000`),
        'mapped',
        'sessionsOpened',
      ),
      into(
        udp(`${stranger}:2 > ${shared}:5000`),
        udp(`${stranger}:2 > ${host}:5000`),
        'mapped',
        'unansweredLimit',
      ),
      out(
        udp(`${host}:5000 > ${stranger}:2`),
        udp(`${shared}:5000 > ${stranger}:2`),
        'sessionsOpened',
      ),
    ],
  },
  {
    name: 'survive-60 a host has so many sessions and no more, and others are not concerned',
    settings: { sessionsPerHost: 1 },
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      told('inside-ingress', udp(`${host}:5000 > ${stranger}:53`), 'full', 'refusedFull'),
      dropped('wan-egress', udp(`${host}:5000 > ${stranger}:53`), 'droppedHostSessions'),
      out(udp(`${neighbour}:5001 > ${remote}:53`), udp(`${shared}:5001 > ${remote}:53`), ...opened),
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`)),
    ],
  },
  {
    name: 'survive-61 survive-84 in a full table unanswered sessions go first, answered ones never',
    sessionCountMax: SLOTS_PER_BUCKET,
    steps: [
      ...range(0, SLOTS_PER_BUCKET - 1).flatMap((index) => [
        out(flood(host, index), flood(shared, index), ...(index === 0 ? opened : opened.slice(1))),
        // Each would die later than the one before; the first and the last are answered.
        ...(index === 0 ? [answer(0)] : []),
        wait(1),
      ]),
      out(flood(host, 15), flood(shared, 15), 'sessionsOpened'),
      answer(15),
      out(
        flood(host, 16),
        flood(shared, 16),
        'sessionsOpened',
        'sessionsClosed',
        'sessionsEvicted',
      ),
      answer(0),
      answer(2),
      ...range(3, 17).map(answer),
      // Now all are answered: there is no room, and nft is told so.
      told('inside-ingress', flood(host, 17), 'full', 'refusedFull'),
      dropped('wan-egress', flood(host, 17), 'droppedTableFull'),
      answer(0),
    ],
  },
  {
    name: 'survive-60 a host has so many mappings and no more',
    settings: { mappingsPerHost: 1 },
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      told('inside-ingress', udp(`${host}:5002 > ${remote}:53`), 'full', 'refusedFull'),
      dropped('wan-egress', udp(`${host}:5002 > ${remote}:53`), 'droppedHostMappings'),
      out(
        udp(`${host}:5000 > ${stranger}:53`),
        udp(`${shared}:5000 > ${stranger}:53`),
        'sessionsOpened',
      ),
    ],
  },
  {
    name: 'a host with an address of its own keeps every port, both ways, pings included',
    steps: [
      out(
        udp('10.77.0.9:61500 > 198.51.100.1:53'),
        udp('203.0.113.9:61500 > 198.51.100.1:53'),
        'sessionsOpened',
      ),
      into(
        tcp(`${stranger}:9 > 203.0.113.9:22`, 'S'),
        tcp(`${stranger}:9 > 10.77.0.9:22`, 'S'),
        'mapped',
        'sessionsOpened',
      ),
      into(
        ping(`${stranger} > 203.0.113.9`, { identifier: 9 }),
        ping(`${stranger} > 10.77.0.9`, { identifier: 9 }),
        'mapped',
        'sessionsOpened',
      ),
      delivered(ping(`${stranger} > 10.77.0.9`, { identifier: 9 }), 'mapped'),
      out(
        ping(`10.77.0.9 > ${stranger}`, { identifier: 9, type: 0 }),
        ping(`203.0.113.9 > ${stranger}`, { identifier: 9, type: 0 }),
      ),
    ],
  },
  {
    name: 'a routed network has sessions, and nothing of it is translated',
    steps: [
      told('inside-ingress', udp(`192.0.2.2:5000 > ${remote}:53`), 'request'),
      fromRouted(),
      told('wan-ingress', udp(`${remote}:53 > 192.0.2.2:5000`), 'reply'),
      told('wan-ingress', udp(`${stranger}:53 > 192.0.2.2:5000`), 'request'),
      delivered(udp(`${stranger}:53 > 192.0.2.2:5000`), 'request', 'sessionsOpened'),
      told('inside-ingress', udp(`192.0.2.2:5000 > ${stranger}:53`), 'reply'),
      dropped('wan-ingress', tcp(`${stranger}:53 > 192.0.2.2:5000`, 'A'), 'droppedStray'),
    ],
  },
  {
    name: 'survive-76 sources that cannot be on the internet are dropped, coming and going',
    steps: [
      ...['127.0.0.1', '0.0.0.1', '224.0.0.1', '240.0.0.1', host, '192.0.2.2', shared].map(
        (source) => dropped('wan-ingress', udp(`${source}:9 > ${shared}:9`), 'droppedMartian'),
      ),
      dropped('wan-ingress', udp(`${stranger}:9 > ${host}:9`), 'droppedInsideAddress'),
      dropped('wan-egress', udp(`10.99.0.1:9 > ${remote}:9`), 'droppedMartian'),
      fromGateway(udp(`198.18.0.1:9 > ${remote}:9`), udp(`198.18.0.1:9 > ${remote}:9`)),
    ],
  },
  {
    name: 'survive-76 sources that cannot be on the internet reach no routed network either',
    steps: [
      ...['127.0.0.1', '0.0.0.1', '224.0.0.1', '240.0.0.1', host, '192.0.2.3', shared].map(
        (source) => dropped('wan-ingress', udp(`${source}:9 > 192.0.2.2:9`), 'droppedMartian'),
      ),
      told('wan-ingress', udp(`${stranger}:9 > 192.0.2.2:9`), 'request'),
    ],
  },
  {
    name: 'survive-79 a protocol without ports is one host’s with one remote, and never mangled',
    steps: [
      out(rawIp(`${host} > ${remote}`, 47), rawIp(`${shared} > ${remote}`, 47), 'sessionsOpened'),
      into(rawIp(`${remote} > ${shared}`, 47), rawIp(`${remote} > ${host}`, 47), 'reply'),
      dropped('wan-egress', rawIp(`${neighbour} > ${remote}`, 47), 'droppedProtocolBusy'),
      out(
        rawIp(`${neighbour} > ${stranger}`, 47),
        rawIp(`${shared} > ${stranger}`, 47),
        'sessionsOpened',
      ),
      told('wan-ingress', rawIp(`${stranger} > ${shared}`, 50), 'request'),
      dropped('wan-egress', rawIp(`${host} > ${remote}`, 51), 'droppedProtocol'),
      dropped(
        'wan-egress',
        ping(`${host} > ${remote}`, { identifier: 0, type: 9 }),
        'droppedProtocol',
      ),
    ],
  },
  {
    name: 'survive-74 a UDP packet without checksum has none afterwards, a wrong one stays wrong',
    steps: [
      out(
        udp(`${host}:5000 > ${remote}:53`, { checksum: 'none', payloadBytes: 3 }),
        udp(`${shared}:5000 > ${remote}:53`, { checksum: 'none', payloadBytes: 3 }),
        ...opened,
      ),
      out(
        udp(`${host}:5000 > ${remote}:53`, { checksum: 'wrong', payloadBytes: 3 }),
        udp(`${shared}:5000 > ${remote}:53`, { checksum: 'wrong', payloadBytes: 3 }),
      ),
    ],
  },
  {
    name: 'survive-75 options of the IP header and the time to live stay as they are',
    steps: [
      out(
        udp(`${host}:5000 > ${remote}:53`, { optionBytes: 8, timeToLive: 1 }),
        udp(`${shared}:5000 > ${remote}:53`, { optionBytes: 8, timeToLive: 1 }),
        ...opened,
      ),
    ],
  },
  {
    name: 'survive-85 what is no IPv4 goes on, and IPv4 that lies about its lengths is dropped',
    steps: [
      told('wan-ingress', withBytes(udp(`${remote}:9 > ${shared}:9`), 12, [0x08, 0x06]), 'request'),
      told('wan-ingress', withBytes(udp(`${remote}:9 > ${shared}:9`), 12, [0x81, 0]), 'request'),
      ...[
        withBytes(udp(`${remote}:9 > ${shared}:9`), 14, [0x65]),
        withBytes(udp(`${remote}:9 > ${shared}:9`), 14, [0x44]),
        withBytes(udp(`${remote}:9 > ${shared}:9`), 14, [0x4f]),
        withBytes(udp(`${remote}:9 > ${shared}:9`), 16, [0xff, 0xff]),
        withBytes(udp(`${remote}:9 > ${shared}:9`), 16, [0, 19]),
        withBytes(udp(`${remote}:9 > ${shared}:9`), 16, [0, 27]),
        withBytes(udp(`${remote}:9 > ${shared}:9`), 34, [0, 0]),
        withBytes(tcp(`${remote}:9 > ${shared}:9`, 'S'), 46, [0x40]),
        withBytes(tcp(`${remote}:9 > ${shared}:9`, 'S'), 46, [0x60]),
      ].map((frame) => dropped('wan-ingress', frame, 'droppedMalformed')),
    ],
  },
  {
    name: 'the bits of the mark that are not ours stay as they are',
    steps: [
      {
        packet: {
          hook: 'inside-ingress',
          bytes: udp(`${host}:5000 > ${remote}:53`),
          mark: 0xffff_ffff,
        },
        outcome: {
          verdict: 'pass',
          bytes: udp(`${host}:5000 > ${remote}:53`),
          mark: 0x807f_f03f,
          counts: {},
        },
      },
    ],
  },
];

/** One endpoint to many. */
function flood(source: string, index: number) {
  return udp(`${source}:5000 > ${remote}:${1000 + index}`);
}

function answer(index: number): NatStep {
  return into(
    udp(`${remote}:${1000 + index} > ${shared}:5000`),
    udp(`${remote}:${1000 + index} > ${host}:5000`),
    'reply',
  );
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, index) => from + index);
}

function fromRouted() {
  const packet = udp(`192.0.2.2:5000 > ${remote}:53`);
  return {
    packet: { hook: 'wan-egress', bytes: packet },
    outcome: { verdict: 'pass', bytes: packet, mark: 0, counts: { sessionsOpened: 1 } },
  } as const;
}

export const natMappingCases: readonly NatCase[] = [...mapping, ...others];
