/**
 * The calls of one tick, one after the other, in one atomic step by the server's clock. Plain reads of entries do without: MGET gives
 * the state along with them.
 *
 * KEYS: the state, two shelves of tags, a mark that makes this run unique, then those of each call. ARGV: a name for the case that a new epoch begins, the channel,
 * then each call: what to do, how many keys, how many arguments, and these.
 *
 * State, a string: number of the last change; the number below which every stamp is void; epoch; mark, which must stand on both shelves
 * too; server process; the time at which all entries with tags, and leases, will be past; the shelf in use, and that time as it was
 * when its use began. It and the shelves have no TTL: a policy that evicts only what has one leaves them alone, and when they are evicted all the same, all is void.
 *
 * Shelf, a hash: tag → the numbers of its last invalidation and of its last hard one, 16 digits each. A tag goes with its shelf,
 * which is emptied when all entries and leases from before the shelf was put away are past. These are points in time, like the
 * TTLs of Redis: so they stay right when its clock is put back.
 *
 * Entry, a string: see redis-entry.ts. Lease, a string: number at which it was granted, 16 digits; token.
 *
 * Returns the time and what each call returns. Changes are published in one message: the epoch and the number of the last of them,
 * then a line for each.
 */
export const cacheLua = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local seq, clear, epoch, mark, run, past, shelf, clean
local changed, told, first = false, {}
local TAGGED = string.byte('1')

local function digits(number) return string.format('%016.0f', number) end

local function keepMark(shelfKey)
  redis.call('UNLINK', shelfKey)
  redis.call('HSET', shelfKey, 'mark', mark)
end

-- Everything there is counts as lost. Numbers begin above all there have been, unless the clock was put back.
local function begin()
  seq, clear, epoch, mark, run, past, shelf, clean = now * 1000, now * 1000, ARGV[1], ARGV[1], '?', 0, 0, 0
  keepMark(KEYS[2])
  keepMark(KEYS[3])
  changed = true
end

local state = redis.call('GET', KEYS[1])
if state then
  seq, clear, epoch, mark, run, past, shelf, clean = string.match(state, '^(%d+) (%d+) (%S+) (%S+) (%S+) (%d+) (%d) (%d+)$')
  seq, clear, past, shelf, clean = tonumber(seq), tonumber(clear), tonumber(past), tonumber(shelf), tonumber(clean)
end
if not seq then begin() end

-- For each of ARGV[from..to] the numbers of its last invalidation and of its last hard one; and the highest of each.
-- What was lost began a new epoch: then all is void.
local function invalidated(tags)
  local anys, hards, any, hard = {}, {}, 0, 0
  for i = 1, #tags do anys[i], hards[i] = 0, 0 end
  for shelfAt = 2, 3 do
    for from = 1, math.max(1, #tags), 1000 do -- the stack holds no more than some thousands
      local found = redis.call('HMGET', KEYS[shelfAt], 'mark', unpack(tags, from, math.min(#tags, from + 999)))
      if found[1] ~= mark then
        begin()
        return {}, {}, clear, clear
      end
      for j = 2, #found do
        if found[j] then
          local i = from + j - 2
          anys[i] = math.max(anys[i], tonumber(string.sub(found[j], 1, 16)))
          hards[i] = math.max(hards[i], tonumber(string.sub(found[j], 17)))
          any, hard = math.max(any, anys[i]), math.max(hard, hards[i])
        end
      end
    end
  end
  return anys, hards, any, hard
end

-- Of an entry from its 49th character on.
local function tagsOf(rest)
  if string.sub(rest, 1, 1) ~= '1' then return {} end
  return cjson.decode(string.match(rest, '{[^\\n]*') or '{}').tags or {}
end

-- Tags must not be forgotten within this time. A tenth more, so that the state is not written anew each time.
local function remember(ms)
  if now + ms > past then past, changed = now + math.ceil(1.1 * ms), true end
end

-- What is of another type is not ours.
local function get(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value
end

-- Four arguments make an entry: for how long it is fresh, how old it is, for how long it is to be kept, and the rest of it.
local function put(key, stamp, a)
  local freshUntil, storedAt, rest = now + ARGV[a], now - ARGV[a + 1], ARGV[a + 3]
  local head = string.format('%016.0f%016.0f%016.0f', stamp, freshUntil > 0 and freshUntil or 0, storedAt > 0 and storedAt or 0)
  redis.call('SET', key, head .. rest, 'PX', ARGV[a + 2])
  if string.byte(rest) == TAGGED then remember(ARGV[a + 2]) end
end

local calls = {}

-- KEYS: entry, lease. ARGV: token, milliseconds, force (1, 0). Returns the number, and the entry, 1 for granted or 0 for busy.
function calls.lease(k, _, a)
  local entry = get(KEYS[k])
  local stamp = entry and string.find(entry, '\\n', 50, true) and tonumber(string.sub(entry, 1, 16)) -- else it is not ours
  if stamp and ARGV[a + 2] == '0' and (tonumber(string.sub(entry, 17, 32)) or 0) > now then
    local _, _, any = invalidated(tagsOf(string.sub(entry, 49)))
    if stamp >= clear and stamp >= any then return { seq, entry } end
  end
  local held = get(KEYS[k + 1])
  -- A client may send a run again whose answer was lost: then the lease is its own.
  if held and string.sub(held, 17) ~= ARGV[a] and (tonumber(string.sub(held, 1, 16)) or 0) >= clear then return { seq, 0 } end
  redis.call('SET', KEYS[k + 1], digits(seq) .. ARGV[a], 'PX', ARGV[a + 1])
  remember(ARGV[a + 1])
  return { seq, 1 }
end

-- KEYS: entry, lease. ARGV: token, then stamp and entry or nothing. Returns 1 if it was stored, else 0.
function calls.fill(k, _, a, m)
  local held = get(KEYS[k + 1])
  if not held or string.sub(held, 17) ~= ARGV[a] then return 0 end
  redis.call('DEL', KEYS[k + 1])
  if m == 1 then return 0 end
  local stamp = tonumber(ARGV[a + 1])
  local _, _, any = invalidated(tagsOf(ARGV[a + 5]))
  if any > stamp or stamp < clear or tonumber(string.sub(held, 1, 16)) < clear then return 0 end
  put(KEYS[k], stamp, a + 2)
  return 1
end

-- A client may send a run again whose answer was lost: that must not write over what others have written since.
local function isFirst(ms)
  if first == nil then first = redis.call('SET', KEYS[4], '', 'NX', 'PX', string.format('%.0f', ms)) and true or false end
  return first
end

-- KEYS: entry and lease of each item. ARGV: message, time until which it may happen (0: ever), then the items' entries. Returns the
-- number, or -1 when it is too late for it.
function calls.write(k, n, a)
  local restMs = ARGV[a + 1] == '0' and 60000 or ARGV[a + 1] - now
  if restMs < 0 or not isFirst(restMs + 1000) then return -1 end
  seq, changed = seq + 1, true
  for i = 0, n / 2 - 1 do
    put(KEYS[k + 2 * i], seq, a + 2 + 4 * i)
    redis.call('DEL', KEYS[k + 2 * i + 1])
  end
  told[#told + 1] = ARGV[a]
  return seq
end

-- ARGV: message. Returns the number.
function calls.all(_, _, a)
  seq, changed = seq + 1, true
  clear = seq
  keepMark(KEYS[2])
  keepMark(KEYS[3])
  told[#told + 1] = ARGV[a]
  return seq
end

-- KEYS: entry and lease of each key. ARGV: message, soft (1, 0). Returns the number.
function calls.keys(k, n, a)
  seq, changed = seq + 1, true
  for i = k, k + n - 1, 2 do
    redis.call('DEL', KEYS[i + 1])
    if ARGV[a + 1] == '0' then
      redis.call('DEL', KEYS[i])
    elseif get(KEYS[i]) then
      redis.call('SETRANGE', KEYS[i], 16, digits(0))
    end
  end
  told[#told + 1] = ARGV[a]
  return seq
end

-- ARGV: message, soft (1, 0), tags. Returns the number.
function calls.tags(_, _, a, m)
  seq, changed = seq + 1, true
  if now > clean then
    shelf, clean = 1 - shelf, past
    keepMark(KEYS[2 + shelf])
  end
  for i = a + 2, a + m - 1 do
    local _, _, _, hard = invalidated({ ARGV[i] })
    redis.call('HSET', KEYS[2 + shelf], ARGV[i], digits(seq) .. digits(ARGV[a + 1] == '0' and seq or hard))
  end
  told[#told + 1] = ARGV[a]
  return seq
end

-- ARGV: tags. Returns the epoch, the number, and for each tag its last invalidation and its last hard one.
function calls.state(_, _, a, m)
  -- Another server, or the same started anew, may have lost the last changes: it has a name of its own.
  local known, info = pcall(redis.call, 'INFO', 'server')
  local present = known and string.match(info, 'run_id:(%w+)') or '-'
  if run ~= present then
    if run ~= '?' then epoch = ARGV[1] end
    run, changed = present, true
  end
  local tags = {}
  for i = a, a + m - 1 do tags[#tags + 1] = ARGV[i] end
  local anys, hards = invalidated(tags)
  return { epoch, seq, anys, hards }
end

-- ARGV: tags. As state, without the epoch.
function calls.check(_, _, a, m)
  local tags = {}
  for i = a, a + m - 1 do tags[#tags + 1] = ARGV[i] end
  local anys, hards = invalidated(tags)
  return { clear, anys, hards }
end

local replies, k, a = { now }, 5, 3
while a <= #ARGV do
  local n, m = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  replies[#replies + 1] = calls[ARGV[a]](k, n, a + 3, m)
  k, a = k + n, a + 3 + m
end

if changed then
  redis.call('SET', KEYS[1], string.format('%.0f %.0f %s %s %s %.0f %.0f %.0f', seq, clear, epoch, mark, run, past, shelf, clean))
end
if #told > 0 then
  redis.call('PUBLISH', ARGV[2], epoch .. ' ' .. string.format('%.0f', seq) .. '\\n' .. table.concat(told, '\\n'))
end
return replies
`
