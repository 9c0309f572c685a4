/*
 * What a log is in Redis. After the prefix, which has a hash tag, so that all is in one slot of a Cluster:
 *
 * `h`, a hash: `head`, the last position; for each stream its last version, the first that can be read, that of the first element of
 * its list, its state (0 live, 1 archived, 2 tombstoned) and the time of its last event.
 * `s` + stream, a list of events: version, position, time, a space after each, then a JSON array that begins with the type.
 * `log`, a stream of pointers to runs, which are the events that one append added to one stream: the ID is the last position; field and
 * value are a stream, and the last version and how many events. Positions have no gaps.
 * `t` + tag, a sorted set of positions. `k` + idempotency key: what the first call came to, JSON.
 * `m` + sender, a hash: the answers that a sender may not have got yet.
 */

/** What the scripts share. KEYS: `h`, `log`. ARGV: the prefix. */
export const logLua = `
local h, log, prefix = KEYS[1], KEYS[2], ARGV[1]
local head = tonumber(redis.call('HGET', h, 'head') or 0)
local lost -- what should be there and is not
local streams = {}

local function digits(number) return string.format('%d', number) end

local function parsed(text)
  local version, middle, first, base, state, at = string.match(text or '0 1 1 0 0', '^(%d+)( (%d+) (%d+) (%d) )(%d+)$')
  return {
    version = tonumber(version), first = tonumber(first), base = tonumber(base), state = tonumber(state),
    middle = middle, at = at, time = tonumber(at), lost = false, elements = false,
  }
end

local function streamOf(name)
  streams[name] = streams[name] or parsed(redis.call('HGET', h, name))
  return streams[name]
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

-- Of an entry of the log, in order: streams, their last versions, how many events, their last positions.
local function runsOf(entry)
  local runs, last = {}, tonumber(string.match(entry[1], '^%d+'))
  for i = #entry[2], 2, -2 do
    local version, count = string.match(entry[2][i], '^(%d+) (%d+)$')
    table.insert(runs, 1, { name = entry[2][i - 1], version = tonumber(version), count = tonumber(count), last = last })
    last = last - count
  end
  return runs
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
    local most = math.min(50, budget)
    local entries = redis.call('XRANGE', log, '(' .. digits(at), '+', 'COUNT', most)
    for _, entry in ipairs(entries) do
      for _, run in ipairs(runsOf(entry)) do
        local before = run.last - run.version -- a position is a version and this
        local from = math.max(run.version - run.count + 1, at - before + 1, streamOf(run.name).first)
        local to = math.min(run.version, from + budget - 1)
        if run.last > at then
          if from <= to then
            for i, element in ipairs(rangeOf(run.name, from, to)) do
              if fits(items, element) then
                found[#found + 1], found[#found + 2] = run.name, element
                size = size + #element
              end
              if #found == 2 * limit then return before + from + i - 1 end
            end
          end
          if lost then return at end
          at = before + math.min(run.version, math.max(to, from - 1))
          budget = budget - math.max(1, to - from + 1)
          if budget <= 0 or size > 4000000 then return at end
        end
      end
    end
    if #entries < most then return head end
  end
end

-- The event at a position, if it was not removed.
local function locate(position, found, items)
  local entry = redis.call('XRANGE', log, digits(position), '+', 'COUNT', 1)[1]
  for _, run in ipairs(entry and runsOf(entry) or {}) do
    local version = run.version - run.last + position
    if version > run.version - run.count and version <= run.version and version >= streamOf(run.name).first then
      local element = rangeOf(run.name, version, version)[1]
      if element and fits(items, element) then found[#found + 1], found[#found + 2] = run.name, element end
    end
  end
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
 * The next events of the log.
 *
 * KEYS: `h`, `log`. ARGV: the prefix, after which position, how many at most, how many to look at, a query.
 * Returns what was lost or '', the end of the log, up to where it has looked, then names and elements in turn.
 */
export const pageLua = `${logLua}
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
    local element = redis.call('LINDEX', list, string.format('%d', middle - base))
    if not element then return { name, 0, {} } end
    if tonumber(string.match(element, '^%d+ %d+ (%d+)')) <= tonumber(ARGV[7]) then low = middle else to = middle - 1 end
  end
end
if from > to or limit == 0 then return { lost, tonumber(state), {} } end
if to - from + 1 > limit then
  if ARGV[6] == '1' then from = to - limit + 1 else to = from + limit - 1 end
end
local elements = redis.call('LRANGE', list, string.format('%d', from - base), string.format('%d', to - base))
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
local after = string.format('%s %d %s %s %s', version, first, base, ARGV[3] == '' and state or ARGV[3], at)
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
 * Removes hidden events for good, with their tags, and the entries of the log all of whose events are hidden; unless somebody else has
 * done it. KEYS: `h`, `log`, the list, tags. ARGV: the prefix, name, version of the first, how many, their positions, then for each tag a
 * position.
 */
export const purgeLua = `${logLua}
local stream, count = streamOf(ARGV[2]), tonumber(ARGV[4])
if digits(stream.base) ~= ARGV[3] then return 0 end
local upTo = 0
for i = 5, 4 + count do
  local entry = tonumber(ARGV[i]) > upTo and redis.call('XRANGE', log, ARGV[i], '+', 'COUNT', 1)[1]
  if entry then
    local runs, hidden = runsOf(entry), true
    for _, run in ipairs(runs) do hidden = hidden and run.version < streamOf(run.name).first end
    if hidden then redis.call('XDEL', log, entry[1]) end
    upTo = runs[#runs].last
  end
end
for i = 4, #KEYS do redis.call('ZREM', KEYS[i], ARGV[count + i + 1]) end
redis.call('LTRIM', KEYS[3], count, -1)
local text = string.format('%d %d %d %d %s', stream.version, stream.first, stream.base + count, stream.state, stream.at)
redis.call('HSET', h, ARGV[2], text)
return 1
`
