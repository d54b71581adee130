/** Sections of the shield: gatekeeper and grantor. */
import { integer, listOf, section, text } from './schema-fields.ts';

const grantorsSchema = listOf(
  section(
    {
      address: text('ip-address', { description: 'Where encapsulated packets are sent.' }),
      weight: integer({
        description: 'Its share of the flows, compared with the other weights.',
        default: 1,
        minimum: 1,
        maximum: 1000,
        unit: 'shares',
      }),
    },
    { description: 'One Grantor.' },
  ),
  {
    description: "The prefix's Grantors; the flow's hash chooses one of them.",
    minItems: 1,
    maxItems: 64,
  },
);

const protectedSchema = listOf(
  section(
    {
      prefix: text('prefix', { description: 'The destinations.' }),
      path: section(
        {
          bandwidth: text('bandwidth', {
            description: 'What the way to the Grantors carries; requests may use 5 % of it.',
            formatMinimum: '1Mbit/s',
            formatMaximum: '10Tbit/s',
          }),
        },
        { description: 'The way from here to the destination.' },
      ),
      grantors: grantorsSchema,
    },
    { description: 'One protected prefix.' },
  ),
  { description: 'Destinations under protection.', minItems: 1, maxItems: 1024 },
);

const keysSchema = text('file', {
  description: 'The file with the keys that authenticate decisions.',
});

export const gatekeeperSchema = section(
  {
    front: section(
      { interface: text('interface-name', { description: 'Where packets of strangers arrive.' }) },
      { description: 'The side of the internet.' },
    ),
    back: section(
      {
        interface: text('interface-name', { description: 'Where packets leave to the Grantors.' }),
        address: text('ip-address', { description: 'The source of encapsulated packets.' }),
      },
      { description: 'The side of the destinations.' },
    ),
    protected: protectedSchema,
    keys: keysSchema,
  },
  { description: 'This machine is a Gatekeeper: it enforces decisions at a vantage point.' },
);

export const grantorSchema = section(
  {
    interface: text('interface-name', { description: 'Where encapsulated packets arrive.' }),
    address: text('ip-address', { description: 'Where Gatekeepers send them.' }),
    gatekeepers: listOf(text('ip-address', { description: "A Gatekeeper's back address." }), {
      description: 'Whose encapsulated packets are accepted.',
      minItems: 1,
      maxItems: 1024,
    }),
    policy: text('file', { description: 'The module that decides about requests.' }),
    keys: keysSchema,
  },
  { description: 'This machine is a Grantor: it decides near the destination.' },
);
