// The shapes of what /v1 serves, as far as this page reads them. /v1/openapi.json describes all.

/**
 * @typedef {{name: string, waiting: number, answered: number, abandoned: number, overdue: number,
 *   turned_away: number, waited_ms: number}} Queue
 * @typedef {{name: string, state: string, paused_for: string | null, since_ms: number, served: number,
 *   missed: number, declined: number}} Agent
 * @typedef {{call: string, from: string, from_name: string | null, to: string, queue: string | null,
 *   queued_ms: number | null, position: number | null, menu: string | null, user: string | null, stage: string, age_ms: number,
 *   host: string, recording: string | null}} Call
 * @typedef {{call: string, from: string, from_name: string | null, user: string | null, muted: boolean,
 *   on_hold: boolean, codec: string, age_ms: number}} Member
 * @typedef {{room: string, host: string, age_ms: number, members: Member[]}} Conference
 * @typedef {{host: string, up: boolean, boot_id: string | null, sessions: number, draining: boolean}} Host
 * @typedef {{name: string, calls: number, tx_calls: number, rx_calls: number, tx_failures: number,
 *   refused: number, registration: string | number, targets: {uri: string, state: string}[]}} Trunk
 * @typedef {{queues: Queue[], agents: Agent[], calls: Call[], conferences: Conference[], hosts: Host[],
 *   trunks: Trunk[], registrations: number, sources: number}} Live
 * @typedef {{user: string, contact: string, source: string, agent: string, expires_s: number}} Registration
 * @typedef {{source: string, offence: string, left_s: number, refused: number}} Source
 * @typedef {{applied: number, refused: number, last: null | {at_unix_s: number, verdict: string,
 *   changed?: string[], needs_restart?: string[]}}} Reloads
 * @typedef {{rx_packets: number, tx_packets: number, lost: number, jitter_ms: number, mos: number | null}} Media
 * @typedef {{called: boolean, address: string, user: string | null, joined_unix_us: number,
 *   left_unix_us: number, codec: string, srtp: string, media: Media | null}} Leg
 * @typedef {{call: string, from: string, to: string, queue: string | null, room: string | null,
 *   answered_by: string | null, rung: string[], started_unix_us: number, wait_ms: number, talk_ms: number,
 *   choices?: {menu: string, keys: string, to: string}[],
 *   ended_by: string, status: number, reason: string, host: string, caller_codec: string,
 *   callee_codec: string, recordings: {host: string, path: string, duration_ms: number}[],
 *   legs: Leg[]}} Detail
 * @typedef {{codec: string | null, packets: number, lost: number, mos: number | null, jitter_ms?: number,
 *   last_ms?: number | null}} Figures
 * @typedef {{id: string, role: string, name: string, display_name: string | null, on_hold: boolean,
 *   muted: boolean, sends_to: string | null, receives_at: string | null}} Party
 * @typedef {{from: string, to: string, heard: 'yes' | 'badly' | 'no' | 'unknown', verdict: string,
 *   reason: string | null, stops: 'before_host' | 'at_host' | 'after_host' | null, concerns: string | null,
 *   remedy: string | null, received: Figures | null, sent: Figures | null, carried_by: string | null}} Direction
 * @typedef {{call: string, host: string, parties: Party[], directions: Direction[], note: string | null}} Audio
 */

export {};
