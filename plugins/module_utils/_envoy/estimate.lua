-- How many tokens an answer has, as long as it does not say so itself.
local ceil, max = math.ceil, math.max
-- A token has about four bytes of English text, and fewer of other ones.
local BYTES_OF_A_TOKEN = 3
-- What is no longer is no event with a part of an answer, but a piece of its end.
local NO_EVENT = 30

-- Counts a stream's events from the first with a part of the answer on: a token each, and what they are longer than the
-- shortest. Pieces are looked at together until they end with an event.
local function stream_estimate()
  local began, events, bytes, shortest = false, 0, 0, nil
  local new_events, new_bytes = 0, 0
  return function(length, text)
    began = began or find(text, '"delta"', 1, true) or find(text, '"text"[ \t]*:[ \t]*"')
    if not began then return 0 end
    local position = find(text, "data:", 1, true)
    while position do
      new_events = new_events + 1
      position = find(text, "data:", position + 5, true)
    end
    new_bytes = new_bytes + length
    if find(text, "data: [DONE]", 1, true) then new_events, new_bytes = new_events - 1, new_bytes - 14 end
    if new_events > 0 and byte(text, length) == 10 then
      local each = new_bytes / new_events
      -- The last event has no text, and is shorter for it.
      local last = find(text, '"finish_reason"[ \t]*:[ \t]*"')
      if each > NO_EVENT and (not shortest or (each < shortest and not last)) then shortest = each end
      events, bytes = events + new_events, bytes + new_bytes
      new_events, new_bytes = 0, 0
    end
    return max(0, events + new_events) + max(0, ceil((bytes - events * (shortest or 0)) / BYTES_OF_A_TOKEN))
  end
end

-- The same for an answer in one piece, if it is a text.
local function whole_estimate(operation)
  local bytes = 0
  return function(length)
    if operation ~= "chat" and operation ~= "text_completion" then return 0 end
    bytes = bytes + length
    return ceil(bytes / BYTES_OF_A_TOKEN)
  end
end
