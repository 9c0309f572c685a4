/*
 * One script for each method of the store. They share what stands first here.
 *
 * KEYS: the state, two shelves of tags, then those of the method. ARGV: a name for the case that a new epoch begins, the channel,
 * then those of the method.
 *
 * State, a hash: `epoch`, `run` (the server process that gave it), `mark` (must stand on both shelves too), `seq`, `clear` (entries
 * with an older stamp are void), `life` (the longest time an entry with tags was to be kept, in ms), `shelf` (in use: 0 or 1) and
 * `since` (when). Times are the server's, in epoch milliseconds. None of the three keys has a TTL: a policy that evicts what
 * has one leaves them alone.
 *
 * Shelf, a hash: tag → the numbers of its last invalidation and of its last hard one, 16 digits each. A tag goes with its shelf,
 * which is emptied when all entries that were written before the shelf was put away are past.
 *
 * Entry, a string: stamp, fresh until and stored at, 16 digits each; `1` if it has tags, else `0`; notes, JSON in one line; the payload.
 * Lease, a string: number at which it was granted, 16 digits; token.
 */
const common = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local epoch, mark, seq, clear, life, shelf, since
local DIGITS = '%016.0f'

-- Everything there is counts as lost. Numbers begin above all there have been, unless the clock was put back.
local function begin()
  epoch, mark, seq, clear, life, shelf, since = ARGV[1], ARGV[1], now * 1000, now * 1000, 0, 0, now
  redis.call('UNLINK', KEYS[2], KEYS[3])
  redis.call('HSET', KEYS[2], 'mark', mark)
  redis.call('HSET', KEYS[3], 'mark', mark)
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'mark', mark, 'seq', string.format('%.0f', seq), 'clear',
    string.format('%.0f', clear), 'life', 0, 'shelf', 0, 'since', since)
end

local state = redis.call('HMGET', KEYS[1], 'epoch', 'mark', 'seq', 'clear', 'life', 'shelf', 'since')
if state[1] then
  epoch, mark, seq, clear = state[1], state[2], tonumber(state[3]), tonumber(state[4])
  life, shelf, since = tonumber(state[5]), tonumber(state[6]), tonumber(state[7])
else
  begin()
end

local function nextSeq()
  seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
end

-- The numbers of the last invalidation of any of these tags, and of the last hard one; what was lost began a new epoch.
local function invalidated(tags)
  local any, hard = 0, 0
  for i = 2, 3 do
    for from = 1, math.max(1, #tags), 1000 do -- the stack holds no more than some thousands
      local found = redis.call('HMGET', KEYS[i], 'mark', unpack(tags, from, math.min(#tags, from + 999)))
      if found[1] ~= mark then
        begin()
        return clear, clear
      end
      for j = 2, #found do
        if found[j] then
          any = math.max(any, tonumber(string.sub(found[j], 1, 16)))
          hard = math.max(hard, tonumber(string.sub(found[j], 17)))
        end
      end
    end
  end
  return any, hard
end

local function tagsOf(entry)
  return cjson.decode(string.match(entry, '^[^\\n]*', 50)).tags
end

local function expired(entry)
  return string.sub(entry, 1, 16) .. string.format(DIGITS, 0) .. string.sub(entry, 33)
end

-- The entry as it may be given out; false when it is void.
local function valid(entry)
  if not entry then return false end
  local stamp = tonumber(string.sub(entry, 1, 16)) or 0 -- not ours
  if stamp >= clear and string.sub(entry, 49, 49) == '1' then
    local any, hard = invalidated(tagsOf(entry))
    if hard > stamp then return false end
    if any > stamp then entry = expired(entry) end
  end
  return stamp >= clear and entry
end

-- Four arguments make an entry: for how long it is fresh, how old it is, for how long it is to be kept, and the rest of it.
local function put(key, stamp, at)
  local freshUntil, storedAt = math.max(0, now + ARGV[at]), math.max(0, now - ARGV[at + 1])
  local ms, rest = tonumber(ARGV[at + 2]), ARGV[at + 3]
  redis.call('SET', key, string.format(DIGITS, stamp) .. string.format(DIGITS, freshUntil) .. string.format(DIGITS, storedAt) .. rest,
    'PX', string.format('%.0f', ms))
  if string.sub(rest, 1, 1) == '1' and ms > life then
    life = ms
    redis.call('HSET', KEYS[1], 'life', string.format('%.0f', life))
  end
end

local function tell(what)
  redis.call('PUBLISH', ARGV[2], string.format('%.0f', seq) .. ' ' .. epoch .. ' ' .. what)
end
`

/** KEYS: entries. Returns the time, the number, and each entry or nothing. */
export const readLua = `${common}
local found = redis.call('MGET', unpack(KEYS, 4))
for i = 1, #found do found[i] = valid(found[i]) end
for i = 1, #found do
  if found[i] and tonumber(string.sub(found[i], 1, 16)) < clear then found[i] = false end -- a new epoch began on the way
end
return { now, seq, found }
`

/** KEYS: entry, lease. ARGV: token, milliseconds, force (1, 0). Returns the time, the number, and the entry, 1 for granted or 0 for busy. */
export const leaseLua = `${common}
local entry = valid(redis.call('GET', KEYS[4]))
if entry and ARGV[5] == '0' and tonumber(string.sub(entry, 17, 32)) > now then return { now, seq, entry } end
local held = redis.call('GET', KEYS[5])
if held and tonumber(string.sub(held, 1, 16)) >= clear then return { now, seq, 0 } end
redis.call('SET', KEYS[5], string.format(DIGITS, seq) .. ARGV[3], 'PX', ARGV[4])
return { now, seq, 1 }
`

/** KEYS: entry, lease. ARGV: token, stamp, then an entry or nothing. Returns 1 if it was stored, else 0. */
export const fillLua = `${common}
local held = redis.call('GET', KEYS[5])
if not held or string.sub(held, 17) ~= ARGV[3] then return 0 end
redis.call('DEL', KEYS[5])
if #ARGV == 4 then return 0 end
local stamp = tonumber(ARGV[4])
if string.sub(ARGV[8], 1, 1) == '1' and invalidated(tagsOf(string.rep('0', 48) .. ARGV[8])) > stamp then return 0 end
if stamp < clear or tonumber(string.sub(held, 1, 16)) < clear then return 0 end
put(KEYS[4], stamp, 5)
return 1
`

/** KEYS: entry and lease of each item. ARGV: message, then the items' entries. Returns the new number. */
export const writeLua = `${common}
nextSeq()
for i = 4, #KEYS, 2 do
  put(KEYS[i], seq, 4 + 2 * (i - 4))
  redis.call('DEL', KEYS[i + 1])
end
tell(ARGV[3])
return seq
`

/** KEYS: entry and lease of each key. ARGV: message, kind, soft (1, 0), tags. Returns the new number. */
export const invalidateLua = `${common}
nextSeq()
if ARGV[4] == 'all' then
  clear = seq
  redis.call('HSET', KEYS[1], 'clear', string.format('%.0f', clear))
  redis.call('UNLINK', KEYS[2], KEYS[3])
  redis.call('HSET', KEYS[2], 'mark', mark)
  redis.call('HSET', KEYS[3], 'mark', mark)
elseif ARGV[4] == 'keys' then
  for i = 4, #KEYS, 2 do
    redis.call('DEL', KEYS[i + 1])
    if ARGV[5] == '0' then
      redis.call('DEL', KEYS[i])
    elseif redis.call('EXISTS', KEYS[i]) == 1 then
      redis.call('SETRANGE', KEYS[i], 16, string.format(DIGITS, 0))
    end
  end
else
  if now < since then since = now end -- the clock was put back: the wait begins anew
  if now - since > life then
    shelf = 1 - shelf
    redis.call('UNLINK', KEYS[2 + shelf])
    redis.call('HSET', KEYS[2 + shelf], 'mark', mark)
    since = now
  end
  redis.call('HSET', KEYS[1], 'shelf', shelf, 'since', since)
  for i = 6, #ARGV do
    local _, hard = invalidated({ ARGV[i] })
    if ARGV[5] == '0' then hard = seq end
    redis.call('HSET', KEYS[2 + shelf], ARGV[i], string.format(DIGITS, seq) .. string.format(DIGITS, hard))
  end
end
tell(ARGV[3])
return seq
`

/** ARGV: tags. Returns the epoch, the number, and that of each tag. */
export const stateLua = `${common}
-- Another server, or the same started anew, may have lost the last changes: it has a name of its own.
local known, info = pcall(redis.call, 'INFO', 'server')
local run = known and string.match(info, 'run_id:(%w+)') or '?'
local before = redis.call('HGET', KEYS[1], 'run')
if run ~= before then
  if before then
    epoch = ARGV[1]
    redis.call('HSET', KEYS[1], 'epoch', epoch)
  end
  redis.call('HSET', KEYS[1], 'run', run)
end
invalidated({})
local tags = {}
for i = 3, #ARGV do tags[i - 2] = invalidated({ ARGV[i] }) end
return { epoch, seq, tags }
`
