import { lanesLua } from './redis-publish.lua.js'

// A group has a stream of what may be handed out, and what waits behind another message of its key ("lane") stands in a sorted
// set until that one has ended. Entries stay in the stream, pending, until they are done or dead: the consumer group's own count of
// deliveries is the attempt, `back` owns what anybody may take, `later` what waits for its next attempt.

/** Most messages of the log that are read at once for those that are handed out. */
const SIDE_BY_SIDE = 16

/** Names of a group's keys, and what its scripts have in common. */
const groupLua = `${lanesLua}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local groups, log, refs = KEYS[1], KEYS[2], KEYS[3]
local due, retries, consumers, dead, graves = KEYS[7], KEYS[8], KEYS[9], KEYS[11], KEYS[12]
local g = { stream = KEYS[4], lanes = KEYS[5], behind = KEYS[6], calls = KEYS[10], channel = ARGV[2] }
local meta = redis.call('HGET', groups, ARGV[1])
g.ordered = meta and string.sub(meta, 1, 1) == 'k'

local function read(id)
  local found = redis.call('XRANGE', log, id, id)[1]
  if not found then return {} end
  local f = found[2]
  return { f[2], f[4], f[6], f[8], f[10] }
end

local function unref(ids)
  if #ids == 0 then return end
  local gone, counted = {}, {}
  for n, count in ipairs(redis.call('HMGET', refs, unpack(ids))) do
    if count and tonumber(count) > 1 then
      redis.call('HINCRBY', refs, ids[n], -1)
    else
      gone[#gone + 1] = ids[n]
      if count then counted[#counted + 1] = ids[n] end
    end
  end
  if #gone > 0 then redis.call('XDEL', log, unpack(gone)) end
  if #counted > 0 then redis.call('HDEL', refs, unpack(counted)) end
end

local function advance(key)
  if key == '' or not g.ordered then return end
  local behind = redis.call('HGET', g.lanes, key)
  if not behind then return end
  local lane = lane_of(key)
  local next = behind ~= '0' and redis.call('ZRANGEBYLEX', g.behind, '[' .. lane, '(' .. lane .. ':', 'LIMIT', 0, 1)[1]
  if not next then return redis.call('HDEL', g.lanes, key) end
  redis.call('ZREM', g.behind, next)
  redis.call('HINCRBY', g.lanes, key, -1)
  ready(g, plain(string.sub(next, #lane + 1)), key)
end

local function hand(who, ids)
  redis.call('XCLAIM', g.stream, 'holdfast', who, 0, unpack(ids))
end

local function to_back(ids)
  if #ids == 0 then return end
  ids[#ids + 1] = 'JUSTID'
  hand('back', ids)
  g.touched = true
end

local function release(who)
  while true do
    local ids = {}
    for _, p in ipairs(redis.call('XPENDING', g.stream, 'holdfast', '-', '+', 1000, who)) do ids[#ids + 1] = p[1] end
    if #ids == 0 then break end
    to_back(ids)
  end
  redis.call('XGROUP', 'DELCONSUMER', g.stream, 'holdfast', who)
  redis.call('ZREM', consumers, who)
  redis.call('HDEL', g.calls, who)
end
`

/** Makes a group, or joins it. ARGV: field, channel, meta, consumer, lease, new version. */
export const joinLua = `${groupLua}
local _, _, wanted, me, lease, version = unpack(ARGV)
if meta and meta ~= wanted then
  if string.sub(meta, 1, 1) ~= string.sub(wanted, 1, 1) then return { 'order', g.ordered and 'key' or 'none' } end
  if redis.call('ZCOUNT', consumers, '(' .. now, '+inf') > 0 then return { 'types' } end
elseif not meta then
  if redis.call('XLEN', g.stream) + redis.call('ZCARD', g.behind) + redis.call('XLEN', dead) > 0 then return { 'dirty' } end
end
if meta ~= wanted then
  redis.call('HSET', groups, ARGV[1], wanted, 'v', version)
end
if not meta then redis.pcall('XGROUP', 'CREATE', g.stream, 'holdfast', '0', 'MKSTREAM') end
redis.call('ZADD', consumers, now + lease, me)
return { 'ok' }
`

/**
 * Takes in how deliveries ended, renews the lease, takes over from the dead, wakes what is due, and hands out. The same call
 * again changes nothing and gives the same deliveries.
 */
export const workLua = `${groupLua}
local _, _, me, call, lease, want, leave = unpack(ARGV)
want = tonumber(want)
if not meta then return { 'gone' } end

local function rebuild()
  redis.pcall('XGROUP', 'CREATE', g.stream, 'holdfast', '0', 'MKSTREAM')
  redis.call('DEL', consumers, due, retries, g.calls, g.lanes)
  if not g.ordered then return end
  for _, entry in ipairs(redis.call('XRANGE', g.stream, '-', '+')) do
    local key = entry[2][4]
    if key ~= '' then redis.call('HSETNX', g.lanes, key, 0) end
  end
  for _, member in ipairs(redis.call('ZRANGE', g.behind, 0, -1)) do
    local size = string.match(member, '^(%d+):')
    local key = string.sub(member, #size + 2, #size + 1 + size)
    if redis.call('HSETNX', g.lanes, key, 0) == 0 then
      redis.call('HINCRBY', g.lanes, key, 1)
    else
      redis.call('ZREM', g.behind, member)
      ready(g, plain(string.sub(member, #lane_of(key) + 1)), key)
    end
  end
end

-- Something that is allowed when memory is full comes first: then the rest is too, and what is done can go.
redis.call('HDEL', g.calls, '-')
local back = redis.pcall('XPENDING', g.stream, 'holdfast', '-', '+', math.max(want, 1), 'back')
if back.err then
  rebuild()
  return { 'lost' }
end
local until_when = redis.call('ZSCORE', consumers, me)
if not until_when then return { 'lost' } end

local taken = {}
local function first_due()
  local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
  return first[2] and math.max(0, first[2] - now)
end
local function take(id, fields, attempts)
  taken[#taken + 1] = { id, attempts, fields[2], fields[4], '', {} }
end

-- Messages that were published one after the other stand side by side in the log: several are read at once, while most are wanted.
local function fill()
  if #taken == 0 then return end
  local ids, of = {}, {}
  for n, one in ipairs(taken) do
    ids[n] = one[1]
    of[one[3]] = one
  end
  for n, record in ipairs(redis.call('HMGET', retries, unpack(ids))) do taken[n][5] = record or '' end
  local most = ${SIDE_BY_SIDE}
  for n, one in ipairs(taken) do
    if #one[6] == 0 then
      local count = math.min(most, #taken - n + 1)
      local found = redis.call('XRANGE', log, one[3], count > 1 and '+' or one[3], 'COUNT', count)
      local wanted = 0
      for _, entry in ipairs(found) do
        local f = entry[2]
        local its = of[entry[1]]
        if its and #its[6] == 0 then
          its[6] = { f[2], f[4], f[6], f[8], f[10] }
          wanted = wanted + 1
        end
      end
      if wanted * 2 < #found then most = 1 end
    end
  end
end
local function answer(next_due)
  fill()
  return { 'ok', next_due or -1, taken }
end

local last = redis.call('HGET', g.calls, me)
local made = last and string.match(last, '^' .. call .. ':(.*)$')
if made then
  for id in string.gmatch(made, '%S+') do
    local entry = redis.call('XRANGE', g.stream, id, id)[1]
    local pending = redis.call('XPENDING', g.stream, 'holdfast', id, id, 1, me)[1]
    if entry and pending then take(id, entry[2], pending[4]) end
  end
  return answer(first_due())
end
-- It knows less than it has answered: a replica that has taken over, or a restart. What was said since then is to be said anew.
if tonumber(last and string.match(last, '^%d+') or 0) ~= call - 1 then
  release(me)
  wake(g)
  return { 'lost' }
end
redis.call('ZADD', consumers, now + lease, me)

local removed, gone, keys = {}, {}, {}
local function remove(id, key)
  if redis.call('XACK', g.stream, 'holdfast', id) == 0 then return false end
  removed[#removed + 1] = id
  keys[#keys + 1] = key
  return true
end
for at = 8, #ARGV, 7 do
  local kind, id, message, key, attempts, a, b = unpack(ARGV, at, at + 6)
  if kind == 'done' then
    if remove(id, key) then gone[#gone + 1] = message end
  elseif kind == 'dead' then
    if remove(id, key) then
      local grave = redis.call('XADD', dead, '*', 'm', message, 'e', b)
      redis.call('HSET', graves, a, (redis.call('HGET', graves, a) or '') .. ' ' .. grave)
    end
  else
    local who = kind == 'back' and 'back' or 'later'
    local moved = redis.call('XCLAIM', g.stream, 'holdfast', who, 0, id, 'RETRYCOUNT', attempts, 'JUSTID')
    if #moved > 0 and kind == 'later' then
      redis.call('ZADD', due, now + a, id)
      redis.call('HSET', retries, id, b)
    end
    g.touched = true
  end
end
if #removed > 0 then
  redis.call('XDEL', g.stream, unpack(removed))
  redis.call('HDEL', retries, unpack(removed))
  unref(gone)
  for _, key in ipairs(keys) do advance(key) end
end
if leave == '1' then
  release(me)
  wake(g)
  return { 'left' }
end

-- Where my own lease was over as well and nobody has noticed, it may be that nobody could reach the server. So the others get
-- another lease, once: the half marks it.
local mine_too = tonumber(until_when) <= now
local late = redis.call('ZRANGEBYSCORE', consumers, '-inf', now, 'WITHSCORES', 'LIMIT', 0, mine_too and -1 or 10)
for at = 1, #late, 2 do
  if mine_too and late[at + 1] % 1 == 0 then
    redis.call('ZADD', consumers, now + lease + 0.5, late[at])
  else
    release(late[at])
  end
end
local next_due = first_due()
if next_due == 0 then
  local rested = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, 1000)
  redis.call('ZREM', due, unpack(rested))
  to_back(rested)
  next_due = first_due()
end

if want > 0 then
  if g.touched then back = redis.call('XPENDING', g.stream, 'holdfast', '-', '+', want, 'back') end
  local ids = {}
  local deliveries = {}
  for _, p in ipairs(back) do
    ids[#ids + 1] = p[1]
    deliveries[p[1]] = p[4] + 1
  end
  if #ids > 0 then
    for _, entry in ipairs(redis.call('XCLAIM', g.stream, 'holdfast', me, 0, unpack(ids))) do
      take(entry[1], entry[2], deliveries[entry[1]])
    end
  end
  if #ids < want then
    local fresh = redis.call('XREADGROUP', 'GROUP', 'holdfast', me, 'COUNT', want - #ids, 'STREAMS', g.stream, '>')
    if fresh then
      for _, entry in ipairs(fresh[1][2]) do take(entry[1], entry[2], 1) end
    end
  end
end
local ids = {}
for n, one in ipairs(taken) do ids[n] = one[1] end
local handed = call .. ':' .. table.concat(ids, ' ')
if #taken < want then
  redis.call('HSET', g.calls, me, handed, '', 1)
else
  redis.call('HSET', g.calls, me, handed)
  if g.touched then wake(g) end
end
return answer(next_due)
`

/** Forgets a group, a part at a time. ARGV: field, channel, new version. */
export const forgetLua = `${groupLua}
if meta then
  if redis.call('ZCOUNT', consumers, '(' .. now, '+inf') > 0 then return 'open' end
  redis.call('HDEL', groups, ARGV[1])
  redis.call('HSET', groups, 'v', ARGV[3])
  redis.call('DEL', consumers, g.calls, due, retries, g.lanes, graves)
end
local found = 0
for _, stream in ipairs({ g.stream, dead }) do
  local entries, messages = {}, {}
  for n, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', 500)) do
    entries[n], messages[n] = entry[1], entry[2][2]
  end
  if #entries > 0 then
    found = found + #entries
    unref(messages)
    redis.call('XDEL', stream, unpack(entries))
  end
end
local behind = redis.call('ZPOPMIN', g.behind, 500)
local messages = {}
for at = 1, #behind, 2 do messages[#messages + 1] = plain(string.sub(behind[at], -36)) end
found = found + #messages
unref(messages)
if found > 0 then return 'more' end
redis.call('DEL', g.stream, dead)
return 'done'
`

/** Waiting, in a handler, waiting to be tried again, dead. ARGV: field, channel. */
export const statsLua = `${groupLua}
local out, later = 0, 0
local pending = redis.pcall('XPENDING', g.stream, 'holdfast')
for _, consumer in ipairs(not pending.err and pending[4] or {}) do
  local n = tonumber(consumer[2])
  if consumer[1] == 'later' then later = n elseif consumer[1] ~= 'back' then out = out + n end
end
local waiting = redis.call('XLEN', g.stream) - out - later + redis.call('ZCARD', g.behind)
return { waiting, out, later, redis.call('XLEN', dead) }
`

/** ARGV: field, channel, limit. */
export const lettersLua = `${groupLua}
local letters = {}
for _, entry in ipairs(meta and redis.call('XRANGE', dead, '-', '+', 'COUNT', ARGV[3]) or {}) do
  letters[#letters + 1] = { entry[1], entry[2][4], read(entry[2][2]) }
end
return letters
`

/** Requeues or drops all dead letters of one message id. ARGV: field, channel, id, what. */
export const exhumeLua = `${groupLua}
local list = meta and redis.call('HGET', graves, ARGV[3])
if not list then return 0 end
for grave in string.gmatch(list, '%S+') do
  local entry = redis.call('XRANGE', dead, grave, grave)[1]
  if entry then
    local id = entry[2][2]
    if ARGV[4] == 'requeue' then
      local m = read(id)
      -- As a new message: so it stands behind those of its key that wait.
      if m[1] then
        put(g, redis.call('XADD', log, '*', 'i', m[1], 't', m[2], 'k', m[3], 'o', m[4], 'd', m[5]), m[3])
      end
    end
    unref({ id })
    redis.call('XDEL', dead, grave)
  end
end
redis.call('HDEL', graves, ARGV[3])
if g.touched then wake(g) end
return 1
`
