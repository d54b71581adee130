/** The firewall's section: rules, address tables, features, devices, schedules, foreign changes. */
import {
  listOf,
  name,
  named,
  oneOf,
  optional,
  place,
  portOrRange,
  section,
  text,
  yesOrNo,
} from './schema-fields.ts';

const comment = optional(text('comment', { description: 'What it is for.' }));
const schedule = (description: string) => optional(name({ description }));

function addresses(description: string) {
  const prefix = text('prefix-or-table', {
    description: 'A prefix or an address of either family, or `"@NAME"`: all of that table.',
  });
  return optional(listOf(prefix, { description, minItems: 1, maxItems: 256 }));
}

const ruleSchema = section(
  {
    name: name({ description: 'Unique among all rules; counters and messages use it.' }),
    action: oneOf(['accept', 'drop', 'reject'], {
      description: 'Let pass, discard in silence, or refuse with an answer.',
    }),
    from: optional(
      place({ description: 'A network, `wan`, `gateway`, or `any` (also if absent).' }),
    ),
    to: optional(place({ description: 'As `from`.' })),
    source: addresses('Addresses that it comes from; absent means all.'),
    destination: addresses('Addresses that it goes to; absent means all.'),
    protocol: optional(
      oneOf(['tcp', 'udp', 'sctp', 'icmp', 'icmpv6', 'esp', 'ah', 'gre'], {
        description: 'The protocol; absent means all.',
      }),
    ),
    ports: optional(
      listOf(portOrRange({ description: 'A destination port, or several.' }), {
        description: 'Destination ports, for tcp, udp and sctp; absent means all.',
        minItems: 1,
        maxItems: 64,
      }),
    ),
    log: optional(
      yesOrNo({
        description:
          'Matching packets are logged, at most ten a second. ' +
          'Of a session that is let through, those are the first ones.',
      }),
    ),
    comment,
  },
  { description: 'One rule.' },
);

const rulesSchema = listOf(ruleSchema, {
  description: 'Rules in order; the first that matches decides.',
  default: [],
  maxItems: 10_000,
});

const tablesSchema = named(
  section(
    {
      addresses: listOf(
        text('prefix', { description: 'A prefix or an address of either family.' }),
        {
          description: 'What is always in it; `gatehouse table` adds more while the program runs.',
          default: [],
          maxItems: 10_000,
        },
      ),
      comment,
    },
    { description: 'One table.' },
  ),
  {
    description: 'Address tables by name; rules name them as `"@NAME"`.',
    default: {},
    maxProperties: 256,
  },
);

const featuresSchema = named(
  section(
    {
      enabled: yesOrNo({
        description: 'How it starts, until somebody switches it.',
        default: false,
      }),
      schedule: schedule('A schedule: it acts only within that time.'),
      rules: listOf(ruleSchema, {
        description: 'Rules that hold while it is on, before those of the list.',
        default: [],
        maxItems: 256,
      }),
      comment,
    },
    { description: 'One feature.' },
  ),
  {
    description: 'Groups of rules that are switched on and off as one, by name.',
    default: {},
    maxProperties: 256,
  },
);

const devicesSchema = named(
  section(
    {
      mac: text('mac-address', {
        description: 'By which it is known, whatever its addresses are.',
      }),
      address: optional(text('ipv4-address', { description: 'The address that DHCP gives it.' })),
      blocked: yesOrNo({
        description: 'Nothing of it passes the gateway; until somebody switches it.',
        default: false,
      }),
      schedule: schedule('A schedule: within that time it is blocked, too.'),
      comment,
    },
    { description: 'One device.' },
  ),
  { description: 'Devices with a name of their own.', default: {}, maxProperties: 4096 },
);

const schedulesSchema = named(
  section(
    {
      days: listOf(
        oneOf(['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'], {
          description: 'A day on which it begins.',
        }),
        {
          description: 'Days on which it begins.',
          default: ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'],
          minItems: 1,
          maxItems: 7,
        },
      ),
      from: text('time-of-day', { description: "When it begins, by the machine's local time." }),
      to: text('time-of-day', {
        description: 'When it ends; a time that is not after `from` means the next day.',
      }),
      comment,
    },
    { description: 'One schedule.' },
  ),
  { description: 'Times of the week by name.', default: {}, maxProperties: 64 },
);

export const firewallSchema = section(
  {
    rules: rulesSchema,
    tables: tablesSchema,
    features: featuresSchema,
    devices: devicesSchema,
    schedules: schedulesSchema,
    foreignChanges: oneOf(['restore', 'report'], {
      description:
        "What happens when somebody else changes Gatehouse's own nft table: its rules are put " +
        'right, or the change is only reported.',
      default: 'restore',
    }),
  },
  { description: 'What may pass.', default: {} },
);
