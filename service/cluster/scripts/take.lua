-- The generic cell rate algorithm on Redis' own clock: processes' clocks differ, and each would let the others wait or overrun.
-- Returns the seconds to wait as text, '0' if taken. The twin in Python is MemoryCoord.take.
-- KEYS: when the allowance will be whole again (µs). ARGV: rate a second, burst, cost.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local each = 1000000 / ARGV[1]
local whole = each * ARGV[2]
-- never further off than a whole allowance, also when the clock was set back or the rate has changed
local full_at = math.min(math.max(tonumber(redis.call('GET', KEYS[1]) or now), now), now + whole) + each * ARGV[3]
local wait = full_at - whole - now
if wait > 1 then -- less is an error of arithmetic
  return string.format('%.17g', wait / 1000000)
end
redis.call('SET', KEYS[1], string.format('%.17g', full_at), 'PX', string.format('%.0f', math.max(1, math.ceil((full_at - now) / 1000))))
return '0'
