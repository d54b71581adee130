/**
 * The whole config file: the one source of its types, its validation and its reference
 * (docs/configuration.md). tools/generate-configuration.ts writes the reference.
 */
import { type Static, Type } from 'typebox';
import { optional, section } from './schema-fields.ts';
import { firewallSchema } from './schema-firewall.ts';
import {
  dataplaneSchema,
  dnsSchema,
  networksSchema,
  portForwardsSchema,
  wanSchema,
} from './schema-gateway.ts';
import { natSchema } from './schema-nat.ts';
import { apiSchema, pathsSchema } from './schema-service.ts';
import { gatekeeperSchema, grantorSchema } from './schema-shield.ts';

/** The version of the config's shape that this program reads; migrations.ts knows the way here. */
export const CONFIG_VERSION = 1;

export const configSchema = section(
  {
    version: Type.Literal(CONFIG_VERSION, {
      description: 'The version of this shape. `gatehouse` brings older files up to date.',
    }),
    wan: optional(wanSchema),
    networks: networksSchema,
    dns: optional(dnsSchema),
    portForwards: portForwardsSchema,
    nat: natSchema,
    api: apiSchema,
    firewall: firewallSchema,
    dataplane: dataplaneSchema,
    gatekeeper: optional(gatekeeperSchema),
    grantor: optional(grantorSchema),
    paths: pathsSchema,
  },
  { description: 'The config file of Gatehouse.' },
);

/** A config with every default filled in. Texts are as written; src/net/ parses them. */
export type Config = Static<typeof configSchema>;
