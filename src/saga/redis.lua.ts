/*
 * What sagas are in Redis. After the prefix, which has a hash tag, so that all is in one slot of a Cluster:
 *
 * `s:` + saga, a hash: `name`, `version`, `hash`, `input`, `deadline`, `status`, `created`, `updated`, `epoch`, `leased`, `owner` (the store
 * object that had it last), `records` and `messages` (how many there have been); `j:` + position, a record; `i:` + number, a message; `u` + dedupe
 * id, empty; `by`, the call that created it; `recent`, the calls that sent the last messages. All of a saga is in one key, so it goes as a whole
 * when its time is up.
 * `d` + version, hash and name of a definition: a sorted set of its sagas by when their lease ends or they are due.
 * `k` + version and name: the set of hashes of which there ever was a saga.
 * `ids`, `parked`: sagas in the order of their ids. `ended`: by when they are kept no longer.
 * `c:` + call: what a claim gave out, for the time of the leases.
 * `wake`, a channel: JSON of the sender, then of each saga milliseconds until it is due (empty: it ended) and its name.
 *
 * A script that Redis breaks off has written nothing (of renewals and creations: some, each of which stands alone): it reads whatever it will
 * write to before it writes, and so it fails first when memory is full or the slot is moving to another node.
 */

/** What the scripts share. KEYS: `ids`, `parked`, `ended`. ARGV: the prefix. */
const shared = `
local ids, parked, ended, prefix = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function exact(number) return string.format('%.17g', number) end
local nowText = exact(now)

-- When a time from now is over; most of one call are the same.
local ends = {}
local function endOf(ms)
  ends[ms] = ends[ms] or exact(now + ms)
  return ends[ms]
end

local function nameOf(saga) return string.sub(saga, #prefix + 3) end
local function dueOf(name, version, hash) return prefix .. 'd' .. version .. ' ' .. hash .. ' ' .. name end

-- All of a saga but what only scripts need.
local function snapshot(saga)
  local all, shown = redis.call('HGETALL', saga), {}
  for i = 1, #all, 2 do
    if string.byte(all[i]) ~= 117 or all[i] == 'updated' then shown[#shown + 1], shown[#shown + 2] = all[i], all[i + 1] end
  end
  return shown
end

local notes = {}
local function note(saga, dueIn) notes[#notes + 1], notes[#notes + 2] = dueIn, nameOf(saga) end
local function tell(sender)
  if #notes == 0 then return end
  redis.pcall('PUBLISH', prefix .. 'wake', cjson.encode({ sender, unpack(notes) })) -- who may not publish may go on
end
`

/**
 * KEYS: the three; of each saga its own, its `d`, its `k`. ARGV: prefix, owner; of each call, name, version, hash, input, deadline or '', lease
 * in ms or ''.
 * Returns the time, then of each whether it was created: 1 and nothing, or 0 and all there is.
 * One whose call was sent again counts as created as long as its maker owns it, or it was to have no owner.
 */
export const createLua = `${shared}
local function create(saga, due, kind, call, name, version, hash, input, deadline, lease)
  local owned = lease == '' and '0' or '1'
  local by, epoch, leased, records = unpack(redis.call('HMGET', saga, 'by', 'epoch', 'leased', 'records'))
  if by then
    local mine = by == call and (owned == '0' or (epoch == '1' and leased == '1' and records == '0'))
    return { mine and 1 or 0, snapshot(saga) }
  end
  local id, dueIn = nameOf(saga), owned == '0' and '0' or lease
  redis.call('HSET', saga, 'name', name, 'version', version, 'hash', hash, 'input', input, 'deadline', deadline, 'status', 'running',
    'created', nowText, 'updated', nowText, 'epoch', owned, 'leased', owned, 'owner', ARGV[2], 'records', '0', 'messages', '0', 'by', call)
  redis.call('ZADD', due, endOf(dueIn), id)
  redis.call('SADD', kind, hash)
  redis.call('ZADD', ids, 0, id)
  redis.call('ZREM', ended, id) -- of one that had this id
  note(saga, dueIn)
  return { 1, {} }
end

local answers = { nowText }
for i = 0, #KEYS / 3 - 2 do
  answers[i + 2] = create(KEYS[3 * i + 4], KEYS[3 * i + 5], KEYS[3 * i + 6], unpack(ARGV, 7 * i + 3, 7 * i + 9))
end
tell(ARGV[2])
return answers
`

/**
 * KEYS: the three; the `c` of this call; of each definition its `d` and `k`. ARGV: prefix, owner, limit, lease in ms, the hash of each definition.
 * Returns the time, the first time of what is due later or '', of each saga 1 if its lease had run out and all there is, and of each that has
 * drifted the number of its definition and its name. A call that is sent again gives out the same sagas if nobody else has had them since.
 */
export const claimLua = `${shared}
local answer, owner, limit, lease = KEYS[4], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local candidates, drifted = {}, {}
local old = redis.call('ZRANGE', ended, '-inf', exact(now - 1000), 'BYSCORE', 'LIMIT', 0, 100)

for n = 5, #ARGV do
  local due, kind, hash = KEYS[2 * n - 5], KEYS[2 * n - 4], ARGV[n]
  local found = redis.call('ZRANGE', due, '-inf', nowText, 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES')
  for i = 1, #found, 2 do
    candidates[#candidates + 1] = { saga = prefix .. 's:' .. found[i], at = tonumber(found[i + 1]), due = due }
  end
  for _, other in ipairs(redis.call('SMEMBERS', kind)) do
    if other ~= hash then
      local start = prefix .. 'd'
      local version, name = string.match(string.sub(due, #start + 1), '^(%d+) %S+ (.*)$')
      for _, saga in ipairs(redis.call('ZRANGE', dueOf(name, version, other), '-inf', nowText, 'BYSCORE', 'LIMIT', 0, 100)) do
        drifted[#drifted + 1], drifted[#drifted + 2] = n - 5, saga
      end
    end
  end
end
table.sort(candidates, function(a, b) return a.at < b.at end)

local taken, gone = {}, {}
local earlier = redis.call('GET', answer)
if earlier then
  for _, one in ipairs(cjson.decode(earlier)) do
    local epoch, leased, had = unpack(redis.call('HMGET', one.saga, 'epoch', 'leased', 'owner'))
    if epoch == one.epoch and had == owner and leased == '1' then taken[#taken + 1] = one end
  end
else
  for i = 1, math.min(limit, #candidates) do
    local one = candidates[i]
    local epoch, leased = unpack(redis.call('HMGET', one.saga, 'epoch', 'leased'))
    if epoch then
      one.epoch, one.expired = exact(epoch + 1), tonumber(leased)
      taken[#taken + 1] = one
    else
      gone[#gone + 1] = one
    end
  end
  for _, one in ipairs(taken) do
    redis.call('HSET', one.saga, 'epoch', one.epoch, 'leased', '1', 'owner', owner)
    redis.call('ZADD', one.due, endOf(lease), nameOf(one.saga))
  end
  for _, one in ipairs(gone) do redis.call('ZREM', one.due, nameOf(one.saga)) end
  if #taken > 0 then redis.call('SET', answer, cjson.encode(taken), 'PX', math.ceil(lease)) end
end
if #old > 0 then
  redis.call('ZREM', ids, unpack(old))
  redis.call('ZREM', ended, unpack(old))
end

local nextAt = ''
for n = 5, #ARGV do
  local first = redis.call('ZRANGE', KEYS[2 * n - 5], 0, 0, 'WITHSCORES')[2]
  if first and (nextAt == '' or tonumber(first) < tonumber(nextAt)) then nextAt = first end
end
local sagas = {}
for i, one in ipairs(taken) do sagas[i] = { one.expired, nameOf(one.saga), snapshot(one.saga) } end
return { nowText, nextAt, sagas, drifted }
`

/** KEYS: the three, the sagas. ARGV: prefix, owner, lease in ms, the epoch of each saga. Returns of each how many messages it has had, -1: fenced. */
export const renewLua = `${shared}
local answers, dues = {}, {}
for i = 4, #KEYS do
  local epoch, owner, leased, messages, name, version, hash =
    unpack(redis.call('HMGET', KEYS[i], 'epoch', 'owner', 'leased', 'messages', 'name', 'version', 'hash'))
  local mine = epoch == ARGV[i] and owner == ARGV[2] and leased == '1'
  answers[i - 3] = mine and tonumber(messages) or -1
  dues[i] = mine and dueOf(name, version, hash)
end
local at = endOf(ARGV[3])
for i = 4, #KEYS do
  if dues[i] then redis.call('ZADD', dues[i], at, nameOf(KEYS[i])) end
end
return answers
`

/**
 * KEYS: the three, the saga of each transition, no two the same. ARGV: prefix, owner, for how long ended sagas are kept in ms or '' (for ever);
 * of each transition epoch, position, record, status, newest message seen, lease in ms or '', when it is due ('': never), how many messages it consumes, their fields.
 * Returns of each '' if it was fenced, else 'ok', and a saga that was let go also milliseconds until it is due or 'never'.
 */
export const commitLua = `${shared}
local kept = ARGV[3]
local all, touched = {}, { parked, ended }
local a = 4
for i = 4, #KEYS do
  local name, version, hash, epoch, owner, leased, records, messages, status =
    unpack(redis.call('HMGET', KEYS[i], 'name', 'version', 'hash', 'epoch', 'owner', 'leased', 'records', 'messages', 'status'))
  local due = name and dueOf(name, version, hash)
  all[#all + 1] = {
    saga = KEYS[i], a = a, due = due, epoch = owner == ARGV[2] and epoch, leased = leased, records = records, messages = messages, status = status,
  }
  touched[#touched + 1] = due or nil
  a = a + 8 + ARGV[a + 7]
end
redis.call('EXISTS', unpack(touched))

local function written(one)
  local saga, due, a = one.saga, one.due, one.a
  local position, status, lease, at = ARGV[a + 1], ARGV[a + 3], ARGV[a + 5], ARGV[a + 6]
  if one.epoch ~= ARGV[a] then return '' end
  if tonumber(one.records) > tonumber(position) then
    return redis.call('HGET', saga, 'j:' .. position) == ARGV[a + 2] and 'ok' or '' -- sent again
  end
  if one.leased ~= '1' or one.records ~= position then return '' end
  local name = nameOf(saga)
  redis.call('HSET', saga, 'j:' .. position, ARGV[a + 2], 'status', status, 'updated', nowText, 'records', exact(position + 1),
    'leased', lease == '' and '0' or '1')
  local last = a + 7 + ARGV[a + 7]
  for from = a + 8, last, 1000 do redis.call('HDEL', saga, unpack(ARGV, from, math.min(last, from + 999))) end
  if status ~= one.status then
    if status == 'parked' then redis.call('ZADD', parked, 0, name) end
    if one.status == 'parked' then redis.call('ZREM', parked, name) end
  end
  if lease ~= '' then
    redis.call('ZADD', due, endOf(lease), name)
    return 'ok'
  end
  if tonumber(one.messages) > tonumber(ARGV[a + 4]) and status ~= 'completed' then at = nowText end
  if at ~= '' then
    local dueIn = exact(math.max(0, at - now))
    redis.call('ZADD', due, at, name)
    note(saga, dueIn)
    return 'ok ' .. dueIn
  end
  redis.call('ZREM', due, name)
  if kept ~= '' and (status == 'completed' or status == 'compensated') then
    redis.call('ZADD', ended, endOf(kept), name)
    redis.call('PEXPIRE', saga, kept)
  end
  note(saga, '')
  return 'ok never'
end

local answers = {}
for i, one in ipairs(all) do answers[i] = written(one) end
tell(ARGV[2])
return answers
`

/**
 * KEYS: the three, the saga, the `d` and `k` that it goes to. ARGV: prefix, sender, when it was created, epoch, position, version, hash, entries, 1 if
 * it must have been let go.
 */
export const moveLua = `${shared}
local saga, due, kind = KEYS[4], KEYS[5], KEYS[6]
local created, name, version, hash, epoch, leased, records =
  unpack(redis.call('HMGET', saga, 'created', 'name', 'version', 'hash', 'epoch', 'leased', 'records'))
if created ~= ARGV[3] then return 'fenced' end
local old, id, rest = dueOf(name, version, hash), nameOf(saga), ',"entries":' .. ARGV[8] .. '}'
if tonumber(records) > tonumber(ARGV[5]) then
  return string.sub(redis.call('HGET', saga, 'j:' .. ARGV[5]), -#rest) == rest and 'ok' or 'fenced' -- sent again
end
if epoch ~= ARGV[4] or records ~= ARGV[5] then return 'fenced' end
local at = leased == '1' and redis.call('ZSCORE', old, id)
if at and tonumber(at) > now then return 'owned' end
if leased == '1' and ARGV[9] == '1' then return 'expired' end
redis.call('EXISTS', old, due, kind)

redis.call('HSET', saga, 'version', ARGV[6], 'hash', ARGV[7], 'epoch', exact(epoch + 1), 'records', exact(records + 1), 'updated', nowText,
  'j:' .. records, '{"at":' .. nowText .. rest)
redis.call('SADD', kind, ARGV[7])
redis.call('ZREM', old, id)
redis.call('ZADD', due, at or nowText, id)
note(saga, '0')
tell(ARGV[2])
return 'ok'
`

/**
 * KEYS: the three, the saga. ARGV: prefix, sender, call, message, 1 if it is a redrive, the field of its dedupe id or ''. A call that is sent
 * again gets its first answer, unless 16 others came between.
 */
export const deliverLua = `${shared}
local saga, call, dedupe = KEYS[4], ';' .. ARGV[3], ARGV[6]
local status, leased, messages, recent, name, version, hash =
  unpack(redis.call('HMGET', saga, 'status', 'leased', 'messages', 'recent', 'name', 'version', 'hash'))
if not status then return 'unknown' end
recent = recent or ''
if string.find(recent .. ';', call .. ';', 1, true) then return 'delivered' end
if status == 'completed' or (status == 'compensated' and ARGV[5] == '0') then return 'finished' end
if dedupe ~= '' and redis.call('HEXISTS', saga, dedupe) == 1 then return 'duplicate' end
local due = dueOf(name, version, hash)
redis.call('EXISTS', due)

local number = exact(messages + 1)
local _, calls = string.gsub(recent, ';', ';')
if calls >= 16 then recent = string.match(recent, '^;[^;]*(.*)$') end
local fields = { 'i:' .. number, ARGV[4], 'messages', number, 'recent', recent .. call }
if dedupe ~= '' then fields[7], fields[8] = dedupe, '' end
redis.call('HSET', saga, unpack(fields))
if status == 'compensated' then -- it had ended, and is about to be driven again
  redis.call('PERSIST', saga)
  redis.call('ZREM', ended, nameOf(saga))
end
if leased ~= '1' then redis.call('ZADD', due, 'LT', nowText, nameOf(saga)) end
note(saga, '0')
tell(ARGV[2])
return 'delivered'
`

/** KEYS: the three, the saga. ARGV: prefix. Returns all there is. */
export const readLua = `${shared}
return snapshot(KEYS[4])
`

/**
 * KEYS: the three. ARGV: prefix, 'ids' or 'parked', the name after which to begin or '', status or '', name of the definition or '', least
 * time without a write or '', limit, how many to look at.
 * Returns where to go on ('': there are no more), then of each its name, those of its definition and version, status and times.
 */
export const listLua = `${shared}
local after, status, definition, stuck, limit, budget = ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local some = redis.call('ZRANGE', prefix .. ARGV[2], after == '' and '-' or '(' .. after, '+', 'BYLEX', 'LIMIT', 0, budget)
local lines = { #some == budget and some[budget] or '' }
for _, saga in ipairs(some) do
  local line = redis.call('HMGET', prefix .. 's:' .. saga, 'name', 'version', 'status', 'created', 'updated')
  local name, at = line[1], line[3]
  local isEnded = at == 'completed' or at == 'compensated'
  if
    name and (status == '' or at == status) and (definition == '' or name == definition)
    and (stuck == '' or (not isEnded and now - line[5] >= tonumber(stuck)))
  then
    lines[#lines + 1] = { saga, unpack(line) }
    if #lines > limit then break end
  end
end
return lines
`
