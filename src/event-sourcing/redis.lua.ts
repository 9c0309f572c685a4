/*
 * What a log is in Redis. After the prefix, which has a hash tag, so that all is in one slot of a Cluster:
 *
 * `h`, a hash: `head`, the last position; for each stream its last version, the first that can be read, that of the first element of
 * its list, its state (0 live, 1 archived, 2 tombstoned) and the time of its last event.
 * `s` + stream, a list of events: version, position, time, a space after each, then a JSON array that begins with the type.
 * `log`, a stream of pointers, one for each run of events that one append added to one stream: its ID is the last position; which
 * stream, its last version, how many. Positions have no gaps.
 * `t` + tag, a sorted set of positions. `k` + idempotency key: what the first call came to, JSON.
 * `m` + sender, a hash: the answers that a sender may not have got yet.
 */

/** What the scripts share. KEYS: `h`, `log`. ARGV: the prefix. */
const log = `
local h, log, prefix = KEYS[1], KEYS[2], ARGV[1]
local head = tonumber(redis.call('HGET', h, 'head') or 0)
local lost -- what should be there and is not
local streams = {}

local function digits(number) return string.format('%.0f', number) end

local function streamOf(name)
  local stream = streams[name]
  if stream then return stream end
  stream = { version = 0, first = 1, base = 1, state = 0, at = 0 }
  local text = redis.call('HGET', h, name)
  if text then
    local version, first, base, state, at = string.match(text, '^(%d+) (%d+) (%d+) (%d) (%d+)$')
    stream.version, stream.first, stream.base = tonumber(version), tonumber(first), tonumber(base)
    stream.state, stream.at = tonumber(state), tonumber(at)
  end
  streams[name] = stream
  return stream
end

local function textOf(stream)
  return string.format('%.0f %.0f %.0f %.0f %.0f', stream.version, stream.first, stream.base, stream.state, stream.at)
end

-- Reads a query at ARGV[i]: how many items; of each, how many types, their beginnings of a JSON array, how many tags, their keys.
-- Returns the items (nil: no query) and what is after them.
local function queryAt(i)
  local count = tonumber(ARGV[i])
  i = i + 1
  if count < 0 then return nil, i end
  local items = {}
  for n = 1, count do
    local item = {}
    for _, list in ipairs({ 'types', 'tags' }) do
      item[list] = {}
      for j = 1, tonumber(ARGV[i]) do item[list][j] = ARGV[i + j] end
      i = i + ARGV[i] + 1
    end
    items[n] = item
  end
  return items, i
end

local function fitsOne(item, position, element, from)
  local fits = #item.types == 0
  for _, start in ipairs(item.types) do
    fits = fits or string.sub(element, from, from + #start - 1) == start
  end
  if not fits then return false end
  for _, tag in ipairs(item.tags) do
    if not redis.call('ZSCORE', tag, position) then return false end
  end
  return true
end

local function fits(items, element)
  if not items then return true end
  local position, from = string.match(element, '^%d+ (%d+) %d+ ()')
  for _, item in ipairs(items) do
    if fitsOne(item, position, element, from) then return true end
  end
  return false
end

local function runAt(entry)
  local last = tonumber(string.match(entry[1], '^%d+'))
  return entry[2][2], tonumber(entry[2][4]), tonumber(entry[2][6]), last
end

local function rangeOf(name, from, to)
  local base = streamOf(name).base
  local elements = redis.call('LRANGE', prefix .. 's' .. name, digits(from - base), digits(to - base))
  if #elements ~= to - from + 1 then lost = name end
  return elements
end

-- Looks through the log. Returns up to where.
local function scan(after, items, limit, budget, found)
  local at, size = after, 0
  while true do
    local count = math.min(100, budget)
    local entries = redis.call('XRANGE', log, '(' .. digits(at), '+', 'COUNT', count)
    for _, entry in ipairs(entries) do
      local name, version, length, last = runAt(entry)
      local from = math.max(version - length + 1 + math.max(0, after - last + length), streamOf(name).first)
      local to = math.min(version, from + budget - 1)
      if from <= to then
        for i, element in ipairs(rangeOf(name, from, to)) do
          if fits(items, element) then
            found[#found + 1], found[#found + 2] = name, element
            size = size + #element
          end
          if #found == 2 * limit then return last - version + from + i - 1 end
        end
      end
      if lost then return at end
      at = last - version + math.min(version, math.max(to, from - 1))
      budget = budget - math.max(1, to - from + 1)
      if budget <= 0 or size > 4000000 then return at end
    end
    if #entries < count then return head end
  end
end

-- The event at a position, if it was not removed.
local function locate(position, found, items)
  local entry = redis.call('XRANGE', log, position, '+', 'COUNT', 1)[1]
  if not entry then return end
  local name, version, count, last = runAt(entry)
  local at = version - last + position
  if at <= version - count or at < streamOf(name).first then return end
  local element = rangeOf(name, at, at)[1]
  if element and fits(items, element) then found[#found + 1], found[#found + 2] = name, element end
end

-- Looks up the rarest tag of each item. Returns up to where.
local function lookUp(after, items, limit, budget, found)
  local upTo, positions, seen = head, {}, {}
  for _, item in ipairs(items) do
    local rarest, least
    for _, tag in ipairs(item.tags) do
      local count = redis.call('ZCOUNT', tag, '(' .. digits(after), '+inf')
      if not least or count < least then rarest, least = tag, count end
    end
    local some = redis.call('ZRANGEBYSCORE', rarest, '(' .. digits(after), '+inf', 'LIMIT', 0, budget)
    if #some == budget then upTo = math.min(upTo, tonumber(some[#some])) end
    for _, position in ipairs(some) do
      if not seen[position] then positions[#positions + 1] = tonumber(position) end
      seen[position] = true
    end
  end
  table.sort(positions)
  local before = after
  for _, position in ipairs(positions) do
    if position > upTo then break end
    locate(position, found, items)
    if lost then return before end
    if #found == 2 * limit then return position end
    before = position
  end
  return upTo
end

-- The next events that items pick: names and elements in turn. Looks at no more than about budget of them. Returns up to where.
local function find(after, items, limit, budget, found)
  local tagged = items ~= nil
  for _, item in ipairs(items or {}) do tagged = tagged and #item.tags > 0 end
  if tagged then return lookUp(after, items, limit, budget, found) end
  return scan(after, items, limit, budget, found)
end

-- A log of which a part is gone must not be gone on with.
if redis.call('EXISTS', log) ~= (head > 0 and 1 or 0) then lost = head > 0 and 'log' or 'h' end
`

/**
 * The appends of one tick, one after the other: each checks everything, then writes; nothing is written in between. A call that is
 * sent again because its answer was lost on the way gets the first answer.
 *
 * KEYS: `h`, `log`, `m` + sender; then of each append: its idempotency key, the lists, the tags of each event, those of conditions.
 * ARGV: the prefix, number of the call, how many earlier ones were answered, their numbers; then appends: 1 if there is an
 * idempotency key, for how long it is kept in ms (0: for ever), how many keys there are in all, how many streams; of each stream:
 * version expected (-1: any, -2: exists), after which position the condition looks, its query (-1: none), how many events; of each
 * event: the array, how many tags.
 *
 * Returns lines, one per append: `o` version, position and time of each stream · `d` the first result · `r` stream, version, state · `b`
 * stream whose condition is broken, or may be · `x` position that is beyond the end, and the end · `l` what was lost, JSON.
 */
export const appendLua = `${log}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answers = KEYS[3]
local done = redis.call('HGET', answers, ARGV[2])
if done then return done end

local function gone(what) return 'l ' .. cjson.encode(what) end

local function isAsExpected(version, expected)
  if expected == -1 then return true end
  if expected == -2 then return version > 0 end
  return version == expected
end

local function partsAt(a, k)
  local parts = {}
  for i = 1, tonumber(ARGV[a]) do parts[i] = { list = KEYS[k + i - 1], name = string.sub(KEYS[k + i - 1], #prefix + 2) } end
  a = a + 1
  for _, part in ipairs(parts) do
    part.expected, part.after = tonumber(ARGV[a]), tonumber(ARGV[a + 1])
    part.unless, a = queryAt(a + 2)
    part.count, part.events = tonumber(ARGV[a]), a + 1
    a = a + 1 + 2 * part.count
  end
  return parts, a
end

-- What stands in the way of an append.
local function refusal(parts)
  for i, part in ipairs(parts) do
    local stream = streamOf(part.name)
    if stream.state > 0 or not isAsExpected(stream.version, part.expected) then
      return string.format('r %d %.0f %d', i, stream.version, stream.state)
    end
    if redis.call('LLEN', part.list) ~= stream.version - stream.base + 1 then return gone(part.name) end
  end
  for i, part in ipairs(parts) do
    if part.unless then
      if part.after > head then return string.format('x %.0f %.0f', part.after, head) end
      local found = {}
      local upTo = find(part.after, part.unless, 1, 1000, found)
      if lost then return gone(lost) end
      if #found > 0 or upTo < head then return string.format('b %d', i) end
    end
  end
end

local function write(part, tag)
  local stream = streamOf(part.name)
  stream.at = math.max(now, stream.at)
  local at, elements = ' ' .. digits(stream.at) .. ' ', {}
  for i = 1, part.count do
    local position, a = digits(head + i), part.events + 2 * (i - 1)
    elements[#elements + 1] = digits(stream.version + i) .. ' ' .. position .. at .. ARGV[a]
    if #elements == 1000 or i == part.count then -- the stack holds no more than some thousands
      redis.call('RPUSH', part.list, unpack(elements))
      elements = {}
    end
    for _ = 1, tonumber(ARGV[a + 1]) do
      redis.call('ZADD', KEYS[tag], position, position)
      tag = tag + 1
    end
  end
  head, stream.version = head + part.count, stream.version + part.count
  redis.call('XADD', log, digits(head) .. '-0', 's', part.name, 'v', digits(stream.version), 'n', part.count)
  redis.call('HSET', h, 'head', digits(head), part.name, textOf(stream))
  return string.format(' %.0f %.0f %.0f', stream.version, head, stream.at), tag
end

local written = false
local function append(parts, key, keptMs, tag)
  if key then
    local first = redis.call('GET', key)
    if first then return 'd ' .. first end
  end
  local why = refusal(parts)
  if why then return why end
  local line, results = 'o', {}
  written = true
  for i, part in ipairs(parts) do
    local result
    result, tag = write(part, tag)
    line = line .. result
    results[i] = { part.name, part.count .. result }
  end
  if key and keptMs == '0' then
    redis.call('SET', key, cjson.encode(results))
  elseif key then
    redis.call('SET', key, cjson.encode(results), 'PX', keptMs)
  end
  return line
end

local lines, k, a = {}, 4, 4 + ARGV[3]
local from = a
while a <= #ARGV do
  local keyed, keptMs, keys = tonumber(ARGV[a]), ARGV[a + 1], tonumber(ARGV[a + 2])
  local parts
  parts, a = partsAt(a + 3, k + keyed)
  lines[#lines + 1] = lost and gone(lost) or append(parts, keyed == 1 and KEYS[k], keptMs, k + keyed + #parts)
  k = k + keys
end
local answer = table.concat(lines, '\\n')
if written then
  redis.call('HSET', answers, ARGV[2], answer)
  redis.call('PEXPIRE', answers, 86400000)
  redis.pcall('PUBLISH', prefix .. 'appended', digits(head)) -- who may not publish may append
end
-- Not before: a script that has written something is let write on when memory is full.
if from > 4 then redis.call('HDEL', answers, unpack(ARGV, 4, from - 1)) end
return answer
`

/**
 * The next events of the log.
 *
 * KEYS: `h`, `log`. ARGV: the prefix, after which position, how many at most, how many to look at, a query.
 * Returns what was lost or '', the end of the log, up to where it has looked, then names and elements in turn.
 */
export const pageLua = `${log}
local after = tonumber(ARGV[2])
if lost or after > head then return { lost or '', digits(head), digits(after) } end
local found = {}
local upTo = find(after, queryAt(5), tonumber(ARGV[3]), tonumber(ARGV[4]), found)
return { lost or '', digits(head), digits(upTo), unpack(found) }
`

/**
 * Part of a stream.
 *
 * KEYS: `h`, the list. ARGV: the prefix, name of the stream, versions from and to, how many at most, 1 if those from the end, the latest time
 * or ''. Returns what was lost or '', the state, and the elements, oldest first.
 */
export const readLua = `
local h, list, name = KEYS[1], KEYS[2], ARGV[2]
local text = redis.call('HGET', h, name)
if not text then return { redis.call('EXISTS', list) == 1 and name or '', 0, {} } end
local version, first, base, state = string.match(text, '^(%d+) (%d+) (%d+) (%d)')
local from, to, limit = math.max(tonumber(ARGV[3]), tonumber(first)), math.min(tonumber(ARGV[4]), tonumber(version)), tonumber(ARGV[5])
local lost = ''
if ARGV[7] ~= '' then -- times never decrease in a stream
  local low = from - 1
  while low < to do
    local middle = math.ceil((low + to) / 2)
    local element = redis.call('LINDEX', list, string.format('%.0f', middle - base))
    if not element then return { name, 0, {} } end
    if tonumber(string.match(element, '^%d+ %d+ (%d+)')) <= tonumber(ARGV[7]) then low = middle else to = middle - 1 end
  end
end
if from > to or limit == 0 then return { lost, tonumber(state), {} } end
if to - from + 1 > limit then
  if ARGV[6] == '1' then from = to - limit + 1 else to = from + limit - 1 end
end
local elements = redis.call('LRANGE', list, string.format('%.0f', from - base), string.format('%.0f', to - base))
if #elements ~= to - from + 1 then lost = name end
return { lost, tonumber(state), elements }
`

/**
 * Hides a stream's events below a version, sets its state. KEYS: `h`. ARGV: name, version, state or '' (as it is).
 * Returns the state before; -1 when the stream does not exist.
 */
export const removeLua = `
local text = redis.call('HGET', KEYS[1], ARGV[1])
if not text and ARGV[3] ~= '2' then return -1 end
local version, first, base, state, at = string.match(text or '0 1 1 0 0', '^(%d+) (%d+) (%d+) (%d) (%d+)$')
if state == '2' then return 2 end
first = math.max(tonumber(first), math.min(tonumber(ARGV[2]), version + 1))
local after = string.format('%s %.0f %s %s %s', version, first, base, ARGV[3] == '' and state or ARGV[3], at)
redis.call('HSET', KEYS[1], ARGV[1], after)
return tonumber(state)
`

/** Events that are hidden and not yet removed. KEYS: `h`, the list. ARGV: name, how many at most. Returns the version of the first and the elements. */
export const hiddenLua = `
local first, base = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^%d+ (%d+) (%d+) ')
if not first or tonumber(base) >= tonumber(first) then return { '0', {} } end
return { base, redis.call('LRANGE', KEYS[2], 0, math.min(first - base, tonumber(ARGV[2])) - 1) }
`

/**
 * Removes hidden events for good, with their tags and pointers, unless somebody else has done it. KEYS: `h`, `log`, the list, tags. ARGV:
 * name, version of the first, how many, their positions, then for each tag a position.
 */
export const purgeLua = `
local text = redis.call('HGET', KEYS[1], ARGV[1]) or ''
local version, first, base, rest = string.match(text, '^(%d+) (%d+) (%d+) (.*)$')
if base ~= ARGV[2] then return 0 end
local count = tonumber(ARGV[3])
for i = 4, 3 + count do redis.call('XDEL', KEYS[2], ARGV[i] .. '-0') end
for i = 4, #KEYS do redis.call('ZREM', KEYS[i], ARGV[count + i]) end
redis.call('LTRIM', KEYS[3], count, -1)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%s %s %.0f %s', version, first, base + count, rest))
return 1
`
