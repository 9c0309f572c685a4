/**
 * One change of a fleet, or a look at it, by the server's clock. A fleet is a hash: `g` generation, `s` state, `u` open until,
 * `n` openings, `settled`, `failures`, `slow` of its trials, `v:NODE` and `l:LEASE` when a vote or a lease ends, `t` when it was
 * last looked at. Times are epoch milliseconds of the server.
 *
 * KEYS: the fleet. ARGV: what to do, the generation it is based on (`-1`: whichever it is), then
 * `view` · `vote` node, openMs, quorum · `acquire` lease, trials, leaseMs ·
 * `settle` lease, result (`success`, `failure`, `ignore`), slow (1, 0), trials, failuresToOpen, slowToOpen, openMs · `close`
 *
 * Returns generation, state, rest of the open time, openings, granted (1, 0), milliseconds until the first lease ends.
 */
export const circuitLua = `
local key, keptMs = KEYS[1], 86400000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local flat = redis.call('HGETALL', key)
local fleet = {}
for i = 1, #flat, 2 do fleet[flat[i]] = flat[i + 1] end
local function number(field) return tonumber(fleet[field] or 0) end

local generation, state, granted = number('g'), fleet['s'] or 'closed', 0

local function put(field, value)
  fleet[field] = value
  redis.call('HSET', key, field, value)
end

local function drop(field)
  fleet[field] = nil
  redis.call('HDEL', key, field)
end

-- The clock was put back, or after a fail-over it is another's that is behind: what is to end does not take longer for that.
local back = number('t') - now
if back > 0 then
  for field, ends in pairs(fleet) do
    if field == 'u' or string.find(field, '^[vl]:') then put(field, string.format('%.0f', ends - back)) end
  end
end

-- Calls see(id, ends) for each that has not ended, and forgets the others.
local function each(kind, see)
  local ended = {}
  for field, ends in pairs(fleet) do
    if string.sub(field, 1, 2) == kind then
      if tonumber(ends) <= now then ended[#ended + 1] = field else see(field, tonumber(ends)) end
    end
  end
  for _, field in ipairs(ended) do drop(field) end
end

local function count(kind)
  local n = 0
  each(kind, function() n = n + 1 end)
  return n
end

local function go(to)
  local others = {}
  for field in pairs(fleet) do
    local kind = string.sub(field, 1, 2)
    if kind == 'v:' or kind == 'l:' then others[#others + 1] = field end
  end
  for _, field in ipairs(others) do drop(field) end
  for _, field in ipairs({ 'settled', 'failures', 'slow' }) do put(field, 0) end
  generation = math.max(generation + 1, time[1] * 1000000 + time[2])
  state = to
  put('g', string.format('%.0f', generation))
  put('s', to)
end

local function open(openMs)
  put('n', number('n') + 1)
  put('u', string.format('%.0f', now + openMs))
  go('open')
end

local function close()
  put('n', 0)
  go('closed')
end

local what, based = ARGV[1], tonumber(ARGV[2])
if based == generation or based == -1 then
  if what == 'vote' and state == 'closed' then
    put('v:' .. ARGV[3], string.format('%.0f', now + ARGV[4]))
    if count('v:') >= tonumber(ARGV[5]) then
      open(ARGV[4])
      granted = 1
    end
  elseif what == 'acquire' then
    if state == 'open' and number('u') <= now then go('half-open') end
    if state == 'half-open' then
      local lease = 'l:' .. ARGV[3]
      local held = count('l:')
      -- While none is held one is always given: a fleet to which circuits with fewer trials have come must not get stuck.
      if fleet[lease] or held + number('settled') < tonumber(ARGV[4]) or held == 0 then
        put(lease, string.format('%.0f', now + ARGV[5]))
        granted = 1
      end
    end
  elseif what == 'settle' and state == 'half-open' then
    local lease, result, slow = 'l:' .. ARGV[3], ARGV[4], tonumber(ARGV[5])
    local trials, failuresToOpen, slowToOpen = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
    count('l:')
    if fleet[lease] then
      drop(lease)
      if result ~= 'ignore' then
        put('settled', number('settled') + 1)
        if result == 'failure' then put('failures', number('failures') + 1) end
        put('slow', number('slow') + slow)
        local left = trials - number('settled')
        if number('failures') >= failuresToOpen or number('slow') >= slowToOpen then
          open(ARGV[9])
        elseif number('failures') + left < failuresToOpen and number('slow') + left < slowToOpen then
          close()
        end
      end
    end
  elseif what == 'close' then
    if state ~= 'closed' then close() else each('v:', drop) end
  end
end

local openForMs = state == 'open' and math.max(0, number('u') - now) or 0
local leasedForMs = 0
each('l:', function(_, ends)
  if leasedForMs == 0 or ends - now < leasedForMs then leasedForMs = ends - now end
end)
-- A day longer than it stays open: who comes back later finds it closed, as one that has never been.
if next(fleet) then
  if number('t') ~= now then put('t', string.format('%.0f', now)) end
  redis.call('PEXPIRE', key, string.format('%.0f', openForMs + keptMs))
end

return { generation, state, openForMs, number('n'), granted, leasedForMs }
`
