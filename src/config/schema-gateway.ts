/** Sections of the home and edge gateway but for `nat`: wan, networks, dns and so on. */
import {
  byInterface,
  listOf,
  named,
  oneOf,
  optional,
  portOrRange,
  section,
  text,
  wordOrText,
} from './schema-fields.ts';
import { natFiltering } from './schema-nat.ts';

export const wanSchema = section(
  {
    interface: text('interface-name', { description: 'The interface that leads to the internet.' }),
    address: wordOrText('dhcp', 'ipv4-interface-address', {
      description: "The gateway's address there; `dhcp` asks the provider for it.",
    }),
    gateway: optional(
      text('ipv4-address', {
        description: "The provider's router. Needed with a fixed address, told by DHCP otherwise.",
      }),
    ),
  },
  { description: 'The way to the internet.' },
);

const dhcpSchema = section(
  {
    range: text('ipv4-range', {
      description: 'Addresses that are given to clients, both ends included.',
    }),
    lease: text('time-span', {
      description: 'How long a client may keep its address without asking again.',
      default: '12h',
      formatMinimum: '2m',
      formatMaximum: '365d',
    }),
  },
  { description: 'Addresses for clients of this network. Without it, clients get none from here.' },
);

const networkNatSchema = section(
  {
    mode: oneOf(['translate', 'route'], {
      description:
        'Whether hosts of this network share an external address, or keep their own addresses, ' +
        'to which the provider must know the way.',
      default: 'translate',
    }),
    filtering: natFiltering({
      description:
        'Who may answer to a mapping (RFC 4787): everybody (full cone), hosts that were talked ' +
        'to, or only the very endpoints that were talked to.',
      default: 'endpoint-independent',
    }),
  },
  { description: 'How addresses of this network are translated on their way out.', default: {} },
);

export const networksSchema = named(
  section(
    {
      interfaces: listOf(text('interface-name', { description: 'An interface of this network.' }), {
        description: 'Where the network is attached; several are bridged.',
        minItems: 1,
        maxItems: 16,
      }),
      address: text('ipv4-interface-address', {
        description: "The gateway's own address in this network, and how large the network is.",
      }),
      dhcp: optional(dhcpSchema),
      nat: networkNatSchema,
    },
    { description: 'One network behind the gateway.' },
  ),
  {
    description: 'Networks behind the gateway, by name. `wan`, `gateway` and `any` are taken.',
    default: {},
    maxProperties: 64,
  },
);

export const dnsSchema = section(
  {
    upstreams: listOf(text('dns-upstream', { description: 'A resolver that is asked.' }), {
      description: "Resolvers that questions are passed on to; none means those of the WAN's DHCP.",
      default: [],
      maxItems: 16,
    }),
    domain: text('domain-name', {
      description: 'The domain of the names of local devices.',
      default: 'lan',
    }),
  },
  {
    description: 'Name resolution for the networks. Without it, the gateway answers no questions.',
  },
);

export const portForwardsSchema = listOf(
  section(
    {
      protocol: oneOf(['tcp', 'udp'], { description: 'The transport protocol.' }),
      port: portOrRange({ description: "The port on the gateway's WAN address, or several." }),
      to: text('ipv4-endpoint', {
        description: 'The host inside, with the port (the first one, for several).',
      }),
      comment: optional(text('comment', { description: 'What it is for.' })),
    },
    { description: 'One way in.' },
  ),
  {
    description: 'Ports of the WAN address that lead to hosts inside.',
    default: [],
    maxItems: 1024,
  },
);

const fastPathWords = ['auto', 'xdp', 'tc', 'off'] as const;

export const dataplaneSchema = section(
  {
    fastPath: oneOf(fastPathWords, {
      description:
        'Where packets of sessions that the rules have let through take the short way, past ' +
        'routing and rules: XDP, tc, nowhere, or what suits each interface. At XDP they pass ' +
        "queues and captures by, too. There is none while others' rules may judge forwarded " +
        'packets.',
      default: 'auto',
    }),
    interfaces: byInterface(
      section(
        {
          fastPath: oneOf(fastPathWords, { description: 'As above, for this interface.' }),
        },
        { description: 'What differs for one interface.' },
      ),
      { description: 'Exceptions by interface.', default: {}, maxProperties: 64 },
    ),
  },
  { description: 'The programs in the kernel.', default: {} },
);
