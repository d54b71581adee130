/** Cases of who outside may reach a mapping (RFC 4787 REQ-8), and that it is always the same. */
import { dropped, into, type NatCase, type NatStep, out, told, wait } from './nat-case.ts';
import { ping, tcp, udp } from './nat-packets.ts';

const opened = ['mappingsOpened', 'sessionsOpened'] as const;
const host = '10.77.0.2';
const remote = '198.51.100.1';
const stranger = '198.51.100.2';
const shared = '203.0.113.1';
const narrow = '10.78.0.2';
const narrowest = '10.79.0.2';

const filtering: readonly NatCase[] = [
  {
    name: 'rfc4787-req8 survive-71 endpoint-independent: a third party reaches a mapped port',
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      into(
        udp(`${stranger}:9 > ${shared}:5000`),
        udp(`${stranger}:9 > ${host}:5000`),
        'mapped',
        'sessionsOpened',
      ),
    ],
  },
  {
    name: 'survive-71 what comes to a port without mapping stays with the gateway as it is',
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      told('wan-ingress', udp(`${stranger}:9 > ${shared}:5001`), 'request'),
      told('wan-ingress', tcp(`${stranger}:9 > ${shared}:5000`, 'S'), 'request'),
      told('wan-ingress', ping(`${stranger} > ${shared}`, { identifier: 5000 }), 'request'),
    ],
  },
  {
    name: 'rfc4787-req8 address-dependent: only addresses that were sent to reach a mapped port',
    steps: [
      out(udp(`${narrow}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      dropped('wan-ingress', udp(`${stranger}:9 > ${shared}:5000`), 'droppedFiltered'),
      into(
        udp(`${remote}:9 > ${shared}:5000`),
        udp(`${remote}:9 > ${narrow}:5000`),
        'mapped',
        'sessionsOpened',
      ),
      out(
        udp(`${narrow}:5000 > ${stranger}:53`),
        udp(`${shared}:5000 > ${stranger}:53`),
        'sessionsOpened',
      ),
      into(
        udp(`${stranger}:9 > ${shared}:5000`),
        udp(`${stranger}:9 > ${narrow}:5000`),
        'mapped',
        'sessionsOpened',
      ),
    ],
  },
  {
    name: 'rfc4787-req8 address-and-port-dependent: only endpoints that were sent to',
    steps: [
      out(udp(`${narrowest}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      dropped('wan-ingress', udp(`${remote}:9 > ${shared}:5000`), 'droppedFiltered'),
      into(udp(`${remote}:53 > ${shared}:5000`), udp(`${remote}:53 > ${narrowest}:5000`), 'reply'),
    ],
  },
  {
    name: 'rfc5382-req4 an unsolicited SYN that the filter refuses is dropped in silence',
    steps: [
      out(
        tcp(`${narrowest}:5000 > ${remote}:80`, 'S'),
        tcp(`${shared}:5000 > ${remote}:80`, 'S'),
        ...opened,
      ),
      dropped('wan-ingress', tcp(`${stranger}:9 > ${shared}:5000`, 'S'), 'droppedFiltered'),
    ],
  },
];

/** They need a port to be chosen, and a filter to be asked. */
const mappedAndFiltered: readonly NatStep[] = [
  out(udp(`${host}:61500 > ${remote}:53`), udp(`${shared}:24566 > ${remote}:53`), ...opened),
  out(udp(`${narrow}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
  dropped('wan-ingress', udp(`${stranger}:9 > ${shared}:5000`), 'droppedFiltered'),
  into(
    udp(`${remote}:9 > ${shared}:5000`),
    udp(`${remote}:9 > ${narrow}:5000`),
    'mapped',
    'sessionsOpened',
  ),
];

/** Of many hosts, and of strangers who try their mappings. */
const otherTraffic: readonly NatStep[] = Array.from({ length: 50 }, (_, index) => {
  const port = 20_000 + index;
  const inside = `10.77.0.${10 + index}:${port}`;
  const outside = `${shared}:${port}`;
  return [
    out(udp(`${inside} > ${remote}:53`), udp(`${outside} > ${remote}:53`), ...opened),
    into(
      udp(`${stranger}:9 > ${outside}`),
      udp(`${stranger}:9 > ${inside}`),
      'mapped',
      'sessionsOpened',
    ),
    ...(index % 10 === 0 ? [wait(1)] : []),
  ];
}).flat();

const determinism: readonly NatCase[] = [
  {
    name: 'rfc4787-req11 an idle NAT chooses this port, and filters like this',
    steps: mappedAndFiltered,
  },
  {
    name: 'rfc4787-req11 after traffic of others it chooses the same port, and filters the same',
    steps: [...otherTraffic, ...mappedAndFiltered],
  },
];

export const natFilteringCases: readonly NatCase[] = [...filtering, ...determinism];
