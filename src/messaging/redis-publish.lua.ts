/** How long the server remembers what it answered a publisher, for the case that the client sends a call again, in seconds. */
const KEPT_S = 86_400

/** What a message and its lane are, for every script. */
export const lanesLua = `
local function lane_of(key) return #key .. ':' .. key .. ':' end

local function padded(id)
  local ms, n = string.match(id, '^(%d+)-(%d+)$')
  return string.rep('0', 15 - #ms) .. ms .. '-' .. string.rep('0', 20 - #n) .. n
end

local function plain(id)
  local ms, n = string.match(id, '^0*(%d+)-0*(%d+)$')
  return ms .. '-' .. n
end

local function ready(g, id, key)
  redis.call('XADD', g.stream, '*', 'm', id, 'k', key)
  g.touched = true
end

local function put(g, id, key)
  if key == '' or not g.ordered or redis.call('HSETNX', g.lanes, key, 0) == 1 then
    return ready(g, id, key)
  end
  redis.call('HINCRBY', g.lanes, key, 1)
  redis.call('ZADD', g.behind, 0, lane_of(key) .. padded(id))
end

local function wake(g)
  if redis.call('HDEL', g.calls, '') == 1 then redis.call('PUBLISH', g.channel, '') end
end
`

/**
 * Stores what several calls publish, each of them whole or not at all. Answers for each which group was full; nothing when none was.
 * KEYS: groups, log, refs, sender, then three or five per group.
 * ARGV: run, version, most per group, number of groups, per group channel and `k` or `n`, then per call the number of its messages, and per
 * message id, type, key, time, data and to which groups.
 */
export const publishLua = `${lanesLua}
local run, version, most, count = unpack(ARGV, 1, 4)
-- Noted at once, as almost every call is answered: no group is full.
local last = redis.call('SET', KEYS[4], run .. ':', 'EX', ${KEPT_S}, 'GET')
local known = last and string.match(last, '^' .. run .. ':(.*)$')
local stale = not known and (redis.call('HGET', KEYS[1], 'v') or '') ~= version
if known or stale then redis.call('SET', KEYS[4], last or '', 'EX', ${KEPT_S}) end
if known then return { 'ok', known } end
if stale then return { 'stale', redis.call('HGETALL', KEYS[1]) } end

most = tonumber(most)
local groups = {}
local key = 5
for n = 1, count do
  local g = { stream = KEYS[key], calls = KEYS[key + 1], dead = KEYS[key + 2], channel = ARGV[3 + 2 * n], ordered = ARGV[4 + 2 * n] == 'k', added = 0 }
  key = key + 3
  if g.ordered then
    g.lanes, g.behind = KEYS[key], KEYS[key + 1]
    key = key + 2
  end
  groups[n] = g
end
-- All that a group holds is in the log: while that is short enough, no group has to be counted.
local length = redis.call('XLEN', KEYS[2])
local function is_full(g, more)
  if length + g.added + more <= most then return false end
  if not g.held then
    g.held = redis.call('XLEN', g.stream) + redis.call('XLEN', g.dead) - g.added
    if g.ordered then g.held = g.held + redis.call('ZCARD', g.behind) end
  end
  return g.held + g.added + more > most
end
local answers = {}
local some_full = false
local at = 5 + 2 * count
while at <= #ARGV do
  local first = at + 1
  at = first + 6 * ARGV[at]
  local more = {}
  for m = first, at - 1, 6 do
    for group in string.gmatch(ARGV[m + 5], '%d+') do
      group = tonumber(group)
      more[group] = (more[group] or 0) + 1
    end
  end
  local full = 0
  for group, n in pairs(more) do
    if (full == 0 or group < full) and is_full(groups[group], n) then full = group end
  end
  answers[#answers + 1] = full
  some_full = some_full or full > 0
  if full == 0 then
    for group, n in pairs(more) do groups[group].added = groups[group].added + n end
    for m = first, at - 1, 6 do
      local sent, type, key, time, data = unpack(ARGV, m, m + 4)
      local id = redis.call('XADD', KEYS[2], '*', 'i', sent, 't', type, 'k', key, 'o', time, 'd', data)
      local takers = 0
      for group in string.gmatch(ARGV[m + 5], '%d+') do
        takers = takers + 1
        put(groups[tonumber(group)], id, key)
      end
      if takers > 1 then redis.call('HSET', KEYS[3], id, takers) end
    end
  end
end
local answer = some_full and table.concat(answers, ' ') or ''
if some_full then redis.call('SET', KEYS[4], run .. ':' .. answer, 'EX', ${KEPT_S}) end
for _, g in ipairs(groups) do
  if g.touched then wake(g) end
end
return { 'ok', answer }
`
