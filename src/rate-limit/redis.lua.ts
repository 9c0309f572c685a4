/**
 * Many calls in one atomic step, by the server's clock. The arithmetic is that of gcra.ts, step by step.
 *
 * KEYS: a mark that makes this run unique, then each call's buckets, in the order of the limits.
 * ARGV: runs of like calls, each `op, tokens, calls, limits`, then per limit `ticksPerToken, ticksPerMicro, size`.
 *
 * Returns, for each `take` in turn, every bucket's backlog in ticks, the first as -1 - backlog if the call was refused; nothing
 * for `adjust` and `reset`. Numbers are whole and below 2^53: Redis writes them exactly.
 */
export const tokenBucketLua = `
local markMs, furthest = 1000, 2251799813685248

if not redis.call('SET', KEYS[1], '', 'NX', 'PX', markMs) then
  return redis.error_reply('DUPLICATE this call has run before, and its answer was lost on the way')
end

local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local held = redis.call('MGET', unpack(KEYS, 2))
local backlogs, scale, changed, reply = {}, {}, {}, {}
local k, a, r = 2, 1, 0

while a < #ARGV do
  local op, tokens, calls, limits = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  local perToken, perMicro, size, now = {}, {}, {}, {}
  for i = 1, limits do
    local at = a + 3 * i
    perToken[i], perMicro[i], size[i] = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    now[i] = math.floor(micros * perMicro[i])
  end
  a = a + 4 + 3 * limits

  for _ = 1, calls do
    local allowed = 1
    for i = 1, limits do
      local key = KEYS[k + i - 1]
      if not backlogs[key] then
        backlogs[key] = math.max((tonumber(held[k + i - 2] or 0) or 0) - now[i], 0)
        scale[key] = perMicro[i]
      end
      if backlogs[key] + math.max(tokens, 1) * perToken[i] > size[i] then allowed = 0 end
    end

    for i = 1, limits do
      local key = KEYS[k + i - 1]
      local before = backlogs[key]
      local after = before
      if op == 'reset' then
        after = 0
      elseif op == 'adjust' then
        after = math.min(math.max(before - tokens * perToken[i], 0), furthest)
      elseif allowed == 1 then
        after = before + tokens * perToken[i]
      end
      if after ~= before then
        backlogs[key] = after
        changed[key] = true
      end
      if op == 'take' then
        r = r + 1
        reply[r] = (i == 1 and allowed == 0) and -1 - after or after
      end
    end
    k = k + limits
  end
end

for key in pairs(changed) do
  local backlog, perMicro = backlogs[key], scale[key]
  if backlog == 0 then
    redis.call('DEL', key)
  else
    local fullAt = math.floor(micros * perMicro) + backlog
    -- One more than it takes, because the server counts the time from the start of its millisecond.
    local ttlMs = math.ceil(backlog / perMicro / 1000) + 1
    redis.call('SET', key, string.format('%.0f', fullAt), 'PX', string.format('%.0f', ttlMs))
  end
end

return reply
`
