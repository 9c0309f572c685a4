import { logLua } from './redis.lua.js'

/**
 * The appends of one tick, one after the other: each checks everything, then writes. What they write is gathered, so that it takes few
 * commands. A call that is sent again because its answer was lost gets the first answer.
 *
 * KEYS: `h`, `log`, `m` + sender; then of each append: its idempotency key, the lists, the tags of each event, those of conditions.
 * ARGV: the prefix, number of the call, for how long idempotency keys are kept in ms (0: for ever), how many earlier calls were
 * answered, their numbers; then of each append: '1 if there is an idempotency key, how many keys there are in all, how many streams'; of
 * each stream: 'version expected (-1 for any, -2 for exists), how many events, 1 if they have tags, 1 if there is a condition'; of the
 * condition: the position it looks from, a query; of each event: the array, and how many tags, if they have any.
 *
 * Returns lines, one per append: `o` version, position and time of each stream · `d` the first result · `r` stream, version, state · `b`
 * stream whose condition is broken, or may be · `x` position that is beyond the end, and the end · `l` what was lost, JSON.
 */
export const appendLua = `${logLua}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local nowText = digits(now) -- formatting costs more than all else here: nothing is formatted twice
local answers, keptMs = KEYS[3], ARGV[3]
local done = redis.call('HGET', answers, ARGV[2])
if done then return done end

-- Calls fn with up to a thousand at a time: the stack holds no more than some thousands.
local function inParts(list, fn)
  for from = 1, #list, 1000 do fn(unpack(list, from, math.min(#list, from + 999))) end
end

local function gone(what) return 'l ' .. cjson.encode(what) end

local listOf, names = {}, {}

local function partAt(a, list)
  local name = string.sub(list, #prefix + 2)
  local expected, count, tagged, conditional = string.match(ARGV[a], '^(%S+) (%d+) (%d) (%d)$')
  local width, after, unless = 1 + tagged, false, false
  a = a + 1
  if conditional == '1' then
    after = tonumber(ARGV[a])
    unless, a = queryAt(a + 1)
  end
  if not listOf[name] then names[#names + 1] = name end
  listOf[name] = list
  local part = {
    name = name, expected = tonumber(expected), count = tonumber(count), counted = count, width = width, after = after, unless = unless,
    events = a,
  }
  return part, a + count * width
end

local appends, k, a = {}, 4, 5 + ARGV[4]
while a <= #ARGV do
  local keyed, keys, count = string.match(ARGV[a], '^(%d) (%d+) (%d+)$')
  local append = { key = keyed == '1' and KEYS[k], tag = k + keyed + count }
  a = a + 1
  for i = 1, tonumber(count) do append[i], a = partAt(a, KEYS[k + keyed + i - 1]) end
  appends[#appends + 1] = append
  k = k + keys
end

-- A list is there if the stream has events.
local function checkLists(names)
  local full, empty = {}, {}
  for _, name in ipairs(names) do
    local stream = streams[name]
    local lists = stream.version >= stream.base and full or empty
    lists[#lists + 1] = listOf[name]
  end
  local wrong = (#full > 0 and redis.call('EXISTS', unpack(full)) ~= #full) or (#empty > 0 and redis.call('EXISTS', unpack(empty)) ~= 0)
  if not wrong then return end
  if #names == 1 then streams[names[1]].lost = true end
  if #names > 1 then for _, name in ipairs(names) do checkLists({ name }) end end
end
inParts(names, function(...)
  local some = { ... }
  for i, text in ipairs(redis.call('HMGET', h, ...)) do streams[some[i]] = parsed(text) end
  checkLists(some)
end)

local dirty, runs, written, headText = {}, {}, false, ''

local function writeRuns()
  if #runs > 0 then redis.call('XADD', log, headText .. '-0', unpack(runs)) end
  runs = {}
end

-- Writes what was gathered.
local function flush()
  if #dirty == 0 then return end
  local fields = { 'head', headText }
  for _, name in ipairs(dirty) do
    local stream = streams[name]
    local elements = stream.elements
    if #elements == 1 then
      redis.call('RPUSH', listOf[name], elements[1])
    else
      inParts(elements, function(...) redis.call('RPUSH', listOf[name], ...) end)
    end
    stream.elements = false
    fields[#fields + 1], fields[#fields + 2] = name, stream.versionText .. stream.middle .. stream.at
  end
  writeRuns()
  inParts(fields, function(...) redis.call('HSET', h, ...) end)
  dirty = {}
end

local function isAsExpected(version, expected)
  if expected == -1 then return true end
  if expected == -2 then return version > 0 end
  return version == expected
end

-- What stands in the way of an append.
local function refusal(append)
  for i, part in ipairs(append) do
    local stream = streams[part.name]
    if stream.state > 0 or not isAsExpected(stream.version, part.expected) then
      return string.format('r %d %d %d', i, stream.version, stream.state)
    end
    if stream.lost then return gone(part.name) end
  end
  for i, part in ipairs(append) do
    if part.unless then
      if part.after > head then return string.format('x %d %d', part.after, head) end
      flush()
      local found = {}
      local upTo = find(part.after, part.unless, 1, 1000, found)
      if lost then return gone(lost) end
      if #found > 0 or upTo < head then return string.format('b %d', i) end
    end
  end
end

-- Returns its result, and the key of the next tag.
local function write(part, tag)
  local stream = streams[part.name]
  local elements, version, event, versionText = stream.elements, stream.version, part.events, nil
  if not elements then
    elements = {}
    stream.elements, dirty[#dirty + 1] = elements, part.name
  end
  if now > stream.time then stream.time, stream.at = now, nowText end
  local at = stream.at
  for i = 1, part.count do
    versionText, headText = digits(version + i), digits(head + i)
    elements[#elements + 1] = versionText .. ' ' .. headText .. ' ' .. at .. ' ' .. ARGV[event]
    if part.width == 2 then
      for _ = 1, tonumber(ARGV[event + 1]) do
        redis.call('ZADD', KEYS[tag], headText, headText)
        tag = tag + 1
      end
    end
    event = event + part.width
  end
  head, stream.version, stream.versionText = head + part.count, version + part.count, versionText
  runs[#runs + 1], runs[#runs + 2] = part.name, versionText .. ' ' .. part.counted
  if #runs == 32 then writeRuns() end -- who looks up an event reads all of an entry
  return ' ' .. versionText .. ' ' .. headText .. ' ' .. at, tag
end

local function appended(append)
  if append.key then
    local first = redis.call('GET', append.key)
    if first then return 'd ' .. first end
  end
  local why = refusal(append)
  if why then return why end
  written = true
  local line, results, tag = 'o', {}, append.tag
  for i, part in ipairs(append) do
    local result
    result, tag = write(part, tag)
    line = line .. result
    results[i] = append.key and { part.name, part.counted .. result }
  end
  if append.key then redis.call('SET', append.key, cjson.encode(results), unpack(keptMs == '0' and {} or { 'PX', keptMs })) end
  return line
end

local lines = {}
for i, append in ipairs(appends) do lines[i] = lost and gone(lost) or appended(append) end
flush()
local answer = table.concat(lines, '\\n')
if written then
  redis.call('HSET', answers, ARGV[2], answer)
  redis.call('PEXPIRE', answers, 86400000)
  redis.pcall('PUBLISH', prefix .. 'appended', digits(head)) -- who may not publish may append
end
-- Not before: a script that has written something is let write on when memory is full.
if ARGV[4] ~= '0' then redis.call('HDEL', answers, unpack(ARGV, 5, 4 + ARGV[4])) end
return answer
`
